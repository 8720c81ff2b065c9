//! Against prost-reflect's messages.
