"""The ensemble of models that judges documents: features, classifiers, calibrated scores, the vote and its report."""
