"""Random faults against the whole tool: ``python -m tests.campaign --minutes 10 --seed 1``.

A campaign is a function that checks some random cases in an empty directory; ``runner.py`` calls it
in rounds until the time is up. ``docs/reliability.md`` says what each campaign shows.
"""
