AUTO = -1
