//! The sink against a real broker; the in-process mock cluster only where errors must be injected.

mod at_least_once;
mod broker;
mod exactly_once;
mod outages;
mod records;
