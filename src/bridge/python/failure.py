def failure(error):
    return "transient", None, None
