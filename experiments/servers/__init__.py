"""MLflow's two local servers (`ui`, `scoring`), each behind a `door` that lets in what is listed.

MLflow has no accounts here, so whoever reaches a port is obeyed: other users and programs of this
machine, and any web page that its user opens. Knows nothing of studies and trials.
"""
