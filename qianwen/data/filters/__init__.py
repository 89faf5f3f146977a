"""An ensemble of classifiers that filters documents: features, classifiers, calibration, vote and report."""
