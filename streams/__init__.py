"""One stream at a time: its clips, what augments them, the towers that encode it. No stream knows another."""
