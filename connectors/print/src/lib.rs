//! Results on standard output, or nowhere.
