//! The book and the README, as far as tests are concerned: every Rust block in them is compiled and run
//! by `cargo test --doc`. Nothing of this is part of the library.

#[doc = include_str!("../README.md")]
struct Readme;

#[doc = include_str!("../docs/getting-started.md")]
struct GettingStarted;

#[doc = include_str!("../docs/time.md")]
struct Time;

#[doc = include_str!("../docs/windows.md")]
struct Windows;

#[doc = include_str!("../docs/rust.md")]
struct RustGuide;

#[doc = include_str!("../docs/testing.md")]
struct Testing;

#[doc = include_str!("../docs/errors.md")]
struct Errors;

#[doc = include_str!("../docs/interceptors.md")]
struct Interceptors;

#[doc = include_str!("../docs/websocket.md")]
struct WebSocket;

#[doc = include_str!("../docs/bus.md")]
struct Bus;

#[doc = include_str!("../docs/redis-sinks.md")]
struct RedisSinks;
