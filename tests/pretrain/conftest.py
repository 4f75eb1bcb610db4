from finetune.conftest import make_corpus, theta0

__all__ = ["make_corpus", "theta0"]
