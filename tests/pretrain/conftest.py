from finetune.conftest import make_corpus, one_thread, theta0

__all__ = ["make_corpus", "one_thread", "theta0"]
