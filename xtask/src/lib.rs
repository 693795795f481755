//! Builds, boots, tests and measures Faultline.
