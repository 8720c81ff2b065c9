//! Tests of feeds: a real server over real sockets.
