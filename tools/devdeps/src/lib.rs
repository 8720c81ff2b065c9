//! Third-party dependencies, with the features of the whole workspace.
