//! A bus in memory: all that every bus must do, and its own bound.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::FutureExt as _;
use tidemill_core::source::Offset;

use super::MemoryBus;
use crate::conformance::{Stage, wait};
use crate::{BusError, Event, EventBus, Replay, Subscription};

struct Memory(MemoryBus);

impl Stage for Memory {
    fn connect(&self) -> Arc<dyn Replay> {
        Arc::new(self.0.clone())
    }

    fn topic(&self, name: &str) -> String {
        name.to_owned()
    }

    fn trim(&self, topic: &str, partition: u32, before: &Offset) -> bool {
        let split = (topic.into(), partition);
        let before: u64 = before.0.parse().unwrap();
        self.0.inner().with(|state| state.log(&split).drop_before(before));
        true
    }
}

crate::conformance!(Memory(MemoryBus::new()));

fn subscribe(bus: &MemoryBus) -> Subscription {
    wait(bus.subscribe(&["orders"], "workers")).unwrap()
}

#[test]
fn who_publishes_waits_for_the_slowest_group_and_goes_on_in_turn() {
    let bus = MemoryBus::with(1, 3);
    let mut member = subscribe(&bus);
    for n in 0..3 {
        wait(bus.publish("orders", Event::new(n.to_string()))).unwrap();
    }
    let mut context = Context::from_waker(Waker::noop());
    let mut first = bus.publish("orders", Event::new("3"));
    let mut second = bus.publish("orders", Event::new("4"));
    assert!(first.poll_unpin(&mut context).is_pending());
    assert!(second.poll_unpin(&mut context).is_pending());
    let held = wait(member.next()).unwrap().unwrap();
    assert!(first.poll_unpin(&mut context).is_pending(), "it is taken, and not handled");
    held.ack();
    assert!(second.poll_unpin(&mut context).is_pending(), "the other came first");
    assert!(matches!(first.poll_unpin(&mut context), Poll::Ready(Ok(_))));
    wait(member.next()).unwrap().unwrap().ack();
    wait(second).unwrap();
    let rest: Vec<_> = (0..3).map(|_| wait(member.next()).unwrap().unwrap()).collect();
    assert_eq!(rest.iter().map(|d| d.event.body()).collect::<Vec<_>>(), [b"2", b"3", b"4"]);
}

#[test]
fn who_holds_all_that_a_partition_takes_is_told_when_somebody_waits() {
    let bus = MemoryBus::with(1, 2);
    let mut member = subscribe(&bus);
    for n in 0..2 {
        wait(bus.publish("orders", Event::new(n.to_string()))).unwrap();
    }
    let skipped = wait(member.next()).unwrap().unwrap();
    wait(member.next()).unwrap().unwrap().ack();
    let mut context = Context::from_waker(Waker::noop());
    assert!(futures::StreamExt::poll_next_unpin(&mut member, &mut context).is_pending());
    let mut waits = bus.publish("orders", Event::new("2"));
    assert!(waits.poll_unpin(&mut context).is_pending());
    let told = wait(member.next()).unwrap().unwrap_err();
    let expected = |offset: &str| matches!(&told, BusError::Unacknowledged { offset: o, count: 2, .. } if o == offset);
    assert!(expected("0"), "{told}");
    assert!(futures::StreamExt::poll_next_unpin(&mut member, &mut context).is_pending(), "once");
    drop(skipped);
    drop(member);
    wait(waits).unwrap();
    let mut member = subscribe(&bus);
    let lost = wait(member.next()).unwrap().unwrap_err();
    assert!(matches!(lost, BusError::EventsLost { count: 1, .. }), "room was needed: {lost}");
}

#[test]
fn a_publisher_that_gives_up_holds_nobody_up() {
    let bus = MemoryBus::with(1, 1);
    let mut member = subscribe(&bus);
    wait(bus.publish("orders", Event::new("0"))).unwrap();
    let mut context = Context::from_waker(Waker::noop());
    let mut first = bus.publish("orders", Event::new("1"));
    let mut second = bus.publish("orders", Event::new("2"));
    assert!(first.poll_unpin(&mut context).is_pending());
    assert!(second.poll_unpin(&mut context).is_pending());
    drop(first);
    wait(member.next()).unwrap().unwrap().ack();
    wait(second).unwrap();
    assert_eq!(wait(member.next()).unwrap().unwrap().event.body(), b"2");
}

#[test]
fn a_group_without_members_holds_nobody_up_and_is_told_what_it_missed() {
    let bus = MemoryBus::with(1, 3);
    drop(subscribe(&bus));
    for n in 0..5 {
        wait(bus.publish("orders", Event::new(n.to_string()))).unwrap();
    }
    let mut member = subscribe(&bus);
    let lost = wait(member.next()).unwrap().unwrap_err();
    assert!(matches!(lost, BusError::EventsLost { count: 2, .. }), "{lost}");
    for n in 2..5 {
        let delivery = wait(member.next()).unwrap().unwrap();
        assert_eq!(delivery.event.body(), n.to_string().as_bytes());
        delivery.ack();
    }
}

#[test]
fn a_name_is_one_bus_in_the_process() {
    let bus = MemoryBus::named("one-bus");
    wait(bus.publish("orders", Event::new("x"))).unwrap();
    let mut member = subscribe(&MemoryBus::named("one-bus"));
    assert_eq!(wait(member.next()).unwrap().unwrap().event.body(), b"x");
}
