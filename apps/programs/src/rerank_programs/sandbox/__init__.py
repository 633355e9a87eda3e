"""Running programs nobody trusts: killable workers behind every wall this machine offers.

``limits`` says how much a program may use; ``walls`` finds out which layers of isolation are there and builds the
worker's command; ``confine`` closes a process from the inside; the ``*_worker`` modules run inside; ``pool`` drives
them from outside and kills what overstays.
"""
