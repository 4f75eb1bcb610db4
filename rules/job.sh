# `job LOG COMMAND...` replaces `COMMAND > LOG 2>&1` in the rules. A command that already had a permanent error in this run (wrong input:
# see speechft/runs/refusals.py) is not run again: LOG gets the same message, and the job fails at once.
job() {
    local log=$1
    shift
    export SPEECHFT_REFUSAL="$log.refused"
    if [ "$(head -n 1 "$SPEECHFT_REFUSAL" 2> /dev/null)" = "$SPEECHFT_RUN" ]; then
        tail -n +2 "$SPEECHFT_REFUSAL" > "$log"
        exit 1
    fi
    rm -f "$SPEECHFT_REFUSAL"
    # The command replaces this shell, so that signals reach it.
    exec "$@" > "$log" 2>&1
}
