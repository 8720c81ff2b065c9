//! Tests of streams: real clients over real sockets.
