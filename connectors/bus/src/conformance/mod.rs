//! What every bus must do, as tests: the ones of this crate pass them, and one of your own can.
//!
//! ```
//! mod my_bus {
//!     use std::sync::Arc;
//!     use tidemill_bus::conformance::Stage;
//!     use tidemill_bus::{MemoryBus, Replay};
//!
//!     pub struct Memory(MemoryBus);
//!
//!     impl Stage for Memory {
//!         fn connect(&self) -> Arc<dyn Replay> {
//!             Arc::new(self.0.clone())
//!         }
//!         fn topic(&self, name: &str) -> String {
//!             name.to_owned()
//!         }
//!     }
//!
//!     tidemill_bus::conformance!(Memory(MemoryBus::new()));
//! }
//! ```
//!
//! The cases run on no executor: each waits for its futures itself, for a minute at most.

mod cases;
mod wait;

use std::sync::Arc;

pub use self::cases::*;
pub use self::wait::wait;
use tidemill_core::source::Offset;

use crate::Replay;

/// Where the cases are played: a bus that is there for all of a case.
pub trait Stage {
    /// A new connection to the bus: what a restarted program would open.
    fn connect(&self) -> Arc<dyn Replay>;

    /// A topic of four partitions that nobody has used, whose name begins with `name`.
    fn topic(&self, name: &str) -> String;

    /// Takes away a partition's events before that offset, as the bus does itself where there are too many.
    /// `false` on a bus that does not promise to tell of them.
    fn trim(&self, topic: &str, partition: u32, before: &Offset) -> bool {
        let _ = (topic, partition, before);
        false
    }
}

/// The cases as tests, each on a stage of its own, which the expression makes.
#[macro_export]
macro_rules! conformance {
    ($stage:expr) => {
        $crate::conformance!($stage;
            an_event_comes_out_as_it_was_put_in,
            events_of_a_key_stay_in_order,
            every_group_gets_everything,
            the_members_of_a_group_share_its_work,
            what_a_member_leaves_goes_to_the_others,
            what_was_not_acknowledged_comes_again,
            a_subscription_reads_several_topics,
            a_group_goes_on_after_a_restart,
            a_slow_subscriber_loses_nothing,
            who_acknowledges_nothing_is_told_and_given_no_more,
            events_that_are_gone_are_told,
            a_topic_is_replayed_from_any_place,
            names_that_are_none_are_refused,
        );
    };
    ($stage:expr; $($case:ident),* $(,)?) => {
        $(
            #[test]
            fn $case() {
                $crate::conformance::$case(&$stage);
            }
        )*
    };
}
