//! Generated input: datagen and Nexmark.
