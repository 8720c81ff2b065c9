//! The cases.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Poll;

use tidemill_core::ErrorKind;
use tidemill_core::record::Header;

use super::{Stage, wait};
use crate::{BusError, Delivery, Event, Receipt, Replay, Start, Subscription, UNACKNOWLEDGED_MAX};

/// How many keys the events of a case have.
const KEYS: usize = 16;

/// Publishes events numbered `numbers`, the key of each following from its number.
fn publish(bus: &Arc<dyn Replay>, topic: &str, numbers: std::ops::Range<usize>) -> Vec<Receipt> {
    let event = |n: usize| Event::keyed(format!("key-{}", n % KEYS), n.to_string());
    numbers.map(|n| wait(bus.publish(topic, event(n))).expect("the event is taken")).collect()
}

fn subscribe(bus: &Arc<dyn Replay>, topics: &[&str], group: &str) -> Subscription {
    wait(bus.subscribe(topics, group)).expect("the group takes a member")
}

/// The number of an event of [`publish`].
fn number(delivery: &Delivery) -> usize {
    let text = std::str::from_utf8(delivery.event.body()).ok();
    text.and_then(|text| text.parse().ok()).expect("the payload is a number")
}

/// The next event of any of these members, and which of them.
fn next_of(members: &mut [Subscription]) -> (usize, Delivery) {
    wait(std::future::poll_fn(|context| {
        for (index, member) in members.iter_mut().enumerate() {
            match futures::Stream::poll_next(std::pin::Pin::new(member), context) {
                Poll::Ready(Some(Ok(delivery))) => return Poll::Ready((index, delivery)),
                Poll::Ready(Some(Err(error))) => panic!("member {index}: {error}"),
                Poll::Ready(None) => panic!("member {index}: the stream has ended"),
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }))
}

/// Takes and acknowledges until all of these numbers have come.
fn drain(member: &mut Subscription, numbers: std::ops::Range<usize>) -> Vec<usize> {
    let mut missing: BTreeSet<usize> = numbers.collect();
    let mut taken = Vec::new();
    while !missing.is_empty() {
        let (_, delivery) = next_of(std::slice::from_mut(member));
        missing.remove(&number(&delivery));
        taken.push(number(&delivery));
        delivery.ack();
    }
    taken
}

/// That the events of each key came in order, each once.
fn assert_ordered(taken: &[usize]) {
    let mut last = BTreeMap::<usize, usize>::new();
    for number in taken {
        let before = last.insert(number % KEYS, *number);
        assert!(before < Some(*number), "{number} came behind {before:?} of the same key");
    }
}

fn close(member: Subscription) {
    wait(member.close()).expect("acknowledgements arrive");
}

/// Key, payload, headers and time are what they were; nothing and empty are different things.
pub fn an_event_comes_out_as_it_was_put_in(stage: &impl Stage) {
    let (bus, topic) = (stage.connect(), stage.topic("whole"));
    let full = Event::keyed(b"k\xff\0", b"\0\xfe payload".to_vec())
        .with_header("event-type", "OrderPlaced.v1")
        .with_header("raw", [0, 255])
        .at(1_700_000_000_123_000);
    let deleted = Event { payload: None, ..Event::keyed("gone", "") };
    let empty = Event { headers: vec![Header::new("empty", "")], ..Event::keyed("empty", "") };
    let mut published = BTreeMap::new();
    for event in [&full, &deleted, &empty] {
        let receipt = wait(bus.publish(&topic, event.clone())).expect("the event is taken");
        assert_eq!(receipt.topic, topic);
        published.insert((receipt.partition, receipt.offset.0.clone()), event.clone());
    }
    let mut member = subscribe(&bus, &[&topic], "readers");
    for _ in 0..3 {
        let (_, delivery) = next_of(std::slice::from_mut(&mut member));
        let at = (delivery.partition, delivery.offset.0.clone());
        let mut expected = published.remove(&at).expect("it comes from where it was put");
        assert_eq!(*delivery.topic, *topic);
        assert!(delivery.event.timestamp.is_some(), "every event has a time");
        expected.timestamp = expected.timestamp.or(delivery.event.timestamp);
        assert_eq!(delivery.event, expected);
        delivery.ack();
    }
}

/// However many are under way at the same time.
pub fn events_of_a_key_stay_in_order(stage: &impl Stage) {
    let (bus, topic) = (stage.connect(), stage.topic("order"));
    let event = |n: usize| Event::keyed(format!("key-{}", n % KEYS), n.to_string());
    let many = (0..400).map(|n| bus.publish(&topic, event(n)));
    let receipts = wait(futures::future::join_all(many));
    let places: BTreeSet<_> = receipts
        .into_iter()
        .map(|receipt| receipt.expect("the event is taken"))
        .map(|receipt| (receipt.partition, receipt.offset.0))
        .collect();
    assert_eq!(places.len(), 400, "every event has a place of its own");
    let mut member = subscribe(&bus, &[&topic], "readers");
    let taken = drain(&mut member, 0..400);
    assert_eq!(taken.len(), 400);
    assert_ordered(&taken);
}

/// Groups do not take from one another.
pub fn every_group_gets_everything(stage: &impl Stage) {
    let (bus, topic) = (stage.connect(), stage.topic("groups"));
    let mut early = subscribe(&bus, &[&topic], "billing");
    publish(&bus, &topic, 0..100);
    let mut late = subscribe(&bus, &[&topic], "audit");
    for member in [&mut early, &mut late] {
        let taken = drain(member, 0..100);
        assert_eq!(taken.len(), 100);
        assert_ordered(&taken);
    }
}

/// Both members of a group work, and no key is worked on by both.
pub fn the_members_of_a_group_share_its_work(stage: &impl Stage) {
    let (bus, topic) = (stage.connect(), stage.topic("shared"));
    let mut members =
        [subscribe(&bus, &[&topic], "workers"), subscribe(&stage.connect(), &[&topic], "workers")];
    let mut published = 0;
    // Members may need a while until they have found one another: until a round is shared.
    for round in 0.. {
        assert!(round < 400, "the work is never shared");
        publish(&bus, &topic, published..published + 64);
        let mut missing: BTreeSet<usize> = (published..published + 64).collect();
        published += 64;
        let mut taken: [Vec<usize>; 2] = Default::default();
        while !missing.is_empty() {
            let (member, delivery) = next_of(&mut members);
            if missing.remove(&number(&delivery)) {
                taken[member].push(number(&delivery));
            }
            delivery.ack();
        }
        taken.iter().for_each(|taken| assert_ordered(taken));
        let keys = taken.map(|taken| taken.iter().map(|n| n % KEYS).collect::<BTreeSet<_>>());
        if keys.iter().all(|keys| !keys.is_empty()) && keys[0].is_disjoint(&keys[1]) {
            return;
        }
    }
}

/// A member that goes without a word is stood in for, by one that is there already.
pub fn what_a_member_leaves_goes_to_the_others(stage: &impl Stage) {
    let (bus, topic) = (stage.connect(), stage.topic("left"));
    let mut first = subscribe(&bus, &[&topic], "workers");
    publish(&bus, &topic, 0..64);
    let mut taken = BTreeSet::new();
    while taken.len() < 20 {
        let (_, delivery) = next_of(std::slice::from_mut(&mut first));
        taken.insert(number(&delivery));
    }
    let mut second = subscribe(&stage.connect(), &[&topic], "workers");
    drop(first);
    let again = drain(&mut second, 0..64);
    assert!(taken.is_subset(&again.into_iter().collect()), "nothing was acknowledged");
}

/// After the subscriber is gone; and what was acknowledged before it does not.
pub fn what_was_not_acknowledged_comes_again(stage: &impl Stage) {
    let (bus, topic) = (stage.connect(), stage.topic("again"));
    publish(&bus, &topic, 0..64);
    let mut member = subscribe(&bus, &[&topic], "workers");
    let (mut held, mut open, mut done) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let mut is_open = BTreeSet::new();
    for count in 0..64 {
        let (_, delivery) = next_of(std::slice::from_mut(&mut member));
        // From the 20th on, one in a partition is left open: what comes behind it may come again.
        if count >= 20 && (is_open.insert(delivery.partition) || count % 2 == 1) {
            open.insert(number(&delivery));
            held.push(delivery);
        } else {
            if !is_open.contains(&delivery.partition) {
                done.insert(number(&delivery));
            }
            delivery.ack();
        }
    }
    close(member);
    let mut member = subscribe(&bus, &[&topic], "workers");
    publish(&bus, &topic, 64..80);
    let mut again = Vec::new();
    let mut missing: BTreeSet<usize> = open.iter().copied().chain(64..80).collect();
    while !missing.is_empty() {
        let (_, delivery) = next_of(std::slice::from_mut(&mut member));
        missing.remove(&number(&delivery));
        again.push(number(&delivery));
        delivery.ack();
    }
    assert!(open.len() >= 20);
    assert_ordered(&again);
    let twice: Vec<_> = again.iter().filter(|number| done.contains(number)).collect();
    assert!(twice.is_empty(), "acknowledged, and yet again: {twice:?}");
    drop(held);
}

/// Of one member, in one stream.
pub fn a_subscription_reads_several_topics(stage: &impl Stage) {
    let bus = stage.connect();
    let topics = ["orders", "payments", "stock"].map(|name| stage.topic(name));
    for (index, topic) in topics.iter().enumerate() {
        publish(&bus, topic, index * 100..index * 100 + 50);
    }
    let names = topics.each_ref().map(String::as_str);
    let mut member = subscribe(&bus, &names, "saga");
    let mut taken = BTreeMap::<String, BTreeSet<usize>>::new();
    for _ in 0..150 {
        let (_, delivery) = next_of(std::slice::from_mut(&mut member));
        taken.entry(delivery.topic.to_string()).or_default().insert(number(&delivery));
        delivery.ack();
    }
    for (index, topic) in topics.iter().enumerate() {
        assert_eq!(taken[topic], (index * 100..index * 100 + 50).collect());
    }
}

/// With a new connection, the group goes on where it was.
pub fn a_group_goes_on_after_a_restart(stage: &impl Stage) {
    let topic = stage.topic("restart");
    let bus = stage.connect();
    publish(&bus, &topic, 0..64);
    let mut member = subscribe(&bus, &[&topic], "workers");
    assert_eq!(drain(&mut member, 0..64).len(), 64);
    close(member);
    publish(&bus, &topic, 64..100);
    drop(bus);
    let bus = stage.connect();
    let mut member = subscribe(&bus, &[&topic], "workers");
    let taken = drain(&mut member, 64..100);
    assert_eq!(taken.len(), 36, "nothing comes twice: {taken:?}");
    assert_ordered(&taken);
}

/// More comes than is held ready for a subscriber that takes nothing, and it gets all of it.
pub fn a_slow_subscriber_loses_nothing(stage: &impl Stage) {
    let (bus, topic) = (stage.connect(), stage.topic("slow"));
    let mut member = subscribe(&bus, &[&topic], "workers");
    let event = |n: usize| Event::keyed(format!("key-{}", n % KEYS), n.to_string());
    for wave in 0..10 {
        let many = (wave * 500..wave * 500 + 500).map(|n| bus.publish(&topic, event(n)));
        for receipt in wait(futures::future::join_all(many)) {
            receipt.expect("the event is taken");
        }
    }
    let taken = drain(&mut member, 0..5000);
    assert_eq!(taken.len(), 5000);
    assert_ordered(&taken);
}

/// A subscriber that never acknowledges stops what is fetched for it, and is told; then it goes on.
pub fn who_acknowledges_nothing_is_told_and_given_no_more(stage: &impl Stage) {
    let (bus, topic) = (stage.connect(), stage.topic("held"));
    let mut member = subscribe(&bus, &[&topic], "workers");
    let all = UNACKNOWLEDGED_MAX + 512;
    let numbers: Vec<usize> = (0..all).collect();
    for wave in numbers.chunks(1024) {
        let event = |n: &usize| Event::keyed("key", n.to_string());
        let wave = wave.iter().map(|n| bus.publish(&topic, event(n)));
        for receipt in wait(futures::future::join_all(wave)) {
            receipt.expect("the event is taken");
        }
    }
    let mut held = Vec::new();
    let told = loop {
        match wait(member.next()).expect("the stream goes on") {
            Ok(delivery) => held.push(delivery),
            Err(told) => break told,
        }
        assert!(held.len() <= UNACKNOWLEDGED_MAX, "more than {UNACKNOWLEDGED_MAX} are out");
    };
    let BusError::Unacknowledged { offset, count, .. } = &told else { panic!("{told}") };
    assert_eq!((offset, *count), (&held[0].offset.0, held.len() as u64));
    let mut taken: Vec<usize> = held.iter().map(number).collect();
    held.into_iter().for_each(Delivery::ack);
    taken.extend(drain(&mut member, taken.len()..all));
    assert_eq!(taken, numbers);
}

/// Events that the bus has dropped before a group came back, by their number, where it promises that.
pub fn events_that_are_gone_are_told(stage: &impl Stage) {
    let (bus, topic) = (stage.connect(), stage.topic("gone"));
    let mut member = subscribe(&bus, &[&topic], "workers");
    let first = wait(bus.publish(&topic, Event::keyed("key", "0"))).expect("the event is taken");
    assert_eq!(drain(&mut member, 0..1), [0]);
    close(member);
    let event = |n: usize| Event::keyed("key", n.to_string());
    let receipts: Vec<Receipt> =
        (1..9).map(|n| wait(bus.publish(&topic, event(n))).expect("the event is taken")).collect();
    if !stage.trim(&topic, first.partition, &receipts[3].offset) {
        return;
    }
    let mut member = subscribe(&bus, &[&topic], "workers");
    let told = wait(member.next()).expect("the stream goes on").expect_err("events are gone");
    let is_right = |told: &BusError| match told {
        BusError::EventsLost { topic: of, partition, count, .. } => {
            (of, *partition, *count) == (&topic, first.partition, 3)
        }
        _ => false,
    };
    assert!(is_right(&told), "{told}");
    assert_eq!(drain(&mut member, 4..9), [4, 5, 6, 7, 8]);
}

/// From the beginning, from an offset, from a time; beside a group, which it does not disturb.
pub fn a_topic_is_replayed_from_any_place(stage: &impl Stage) {
    let (bus, topic) = (stage.connect(), stage.topic("replay"));
    let receipts = publish(&bus, &topic, 0..64);
    let mut group = subscribe(&bus, &[&topic], "workers");
    drain(&mut group, 0..64);
    let replay = |from| wait(bus.replay(&topic, from)).expect("the bus replays");
    let mut all = replay(Start::Earliest);
    let taken = drain(&mut all, 0..64);
    assert_eq!(taken.len(), 64);
    assert_ordered(&taken);

    let from = &receipts[40];
    let offsets = BTreeMap::from([(from.partition, from.offset.clone())]);
    let expected = |n: &usize| receipts[*n].partition != from.partition || *n >= 40;
    let expected: BTreeSet<usize> = (0..64).filter(expected).collect();
    let mut some = replay(Start::Offsets(offsets));
    let mut taken = BTreeSet::new();
    while taken.len() < expected.len() {
        let (_, delivery) = next_of(std::slice::from_mut(&mut some));
        assert!(taken.insert(number(&delivery)), "twice");
    }
    assert_eq!(taken, expected);

    publish(&bus, &topic, 64..80);
    assert_eq!(drain(&mut all, 64..80).len(), 16, "a replay goes on with what comes");
    assert_eq!(drain(&mut group, 64..80).len(), 16, "the group was not disturbed");
    let mut new = replay(Start::Time(i64::MAX / 2_000 * 1_000));
    publish(&bus, &topic, 80..81);
    assert_eq!(drain(&mut new, 80..81), [80], "nothing is that late but what comes");
    assert_eq!(drain(&mut replay(Start::Time(0)), 0..81).len(), 81);
}

/// By every bus alike, so that a program which runs on one runs on all.
pub fn names_that_are_none_are_refused(stage: &impl Stage) {
    let bus = stage.connect();
    for name in ["", "a b", "a;b", "a/0", "{a}"] {
        let published = wait(bus.publish(name, Event::new("x")));
        assert!(matches!(published, Err(BusError::UnknownTopic { .. })), "{name}: {published:?}");
        let error = wait(bus.subscribe(&[name], "g")).map(|_| ()).expect_err("no topic");
        assert_eq!(error.kind(), ErrorKind::Configuration, "{name}: {error}");
    }
    assert!(wait(bus.subscribe(&[], "g")).is_err(), "to nothing");
    assert!(wait(bus.subscribe(&["a"], "")).is_err(), "under no name");
    let offsets = BTreeMap::from([(0, tidemill_core::source::Offset("nowhere".into()))]);
    let topic = stage.topic("wrong");
    let error = wait(bus.replay(&topic, Start::Offsets(offsets))).map(|_| ());
    assert!(matches!(error, Err(BusError::InvalidOffset { .. })), "{error:?}");
}
