def limits(node, options):
    return []
