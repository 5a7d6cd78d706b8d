"""One run of `bert-tokemb embed`: job, resuming, report, progress, disk space."""
