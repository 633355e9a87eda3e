"""Choose, calibrate and explain among candidate summaries and answers."""
