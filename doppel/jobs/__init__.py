"""Durable work: a sync, a reindex or a training is a job, whoever asks for it.

A job is a command of Doppel's in a process of its own. It is queued in a database (DBOS), and one worker for each data
folder works the queues off: `doppel serve` while it runs, else a command that waits for its job, else
`doppel jobs work`. A job whose worker died is started again by the next one; every such command goes on where it was
stopped, so starting it again is all that a recovery takes.
"""
