"""What a client keeps on its disk: whole or not there, through crashes, full disks and damage."""
