//! A saga over an event bus: orders are placed, paid for and taken from stock by services that know nothing
//! of one another but events; and a job over all that they say.
//!
//! ```text
//! shop ── OrderPlaced ──▶ payments ── PaymentAuthorised │ PaymentDeclined ──▶ inventory ── StockReserved │ StockRejected
//!              │                              │                                                  │
//!              └──────────────────────────────┴──────── order_saga.sql ──────────────────────────┘
//!                                                 placed, paid, declined, revenue
//! ```
//!
//! It runs on any bus, and without a server:
//!
//! ```sh
//! cargo run --example 09_order_saga
//! BUS=redis://127.0.0.1:6379 cargo run --example 09_order_saga
//! ```

use serde::{Deserialize, Serialize};
use tidemill::bus::{BusError, Delivery, Envelope, Event, EventBus, Replay, Subscription, connect};
use tidemill::prelude::*;
use tidemill::runtime::{CheckpointSettings, JobSettings};
use tidemill::sql::Registry;

/// The job over the saga's events.
const JOB: &str = include_str!("jobs/order_saga.sql");

/// The first order, in milliseconds since 1970.
const OPENING: i64 = 1_767_600_000_000;

/// From one order to the next, in milliseconds.
const STEP: i64 = 500;

/// How many events are under way at a time.
const UNDER_WAY: u32 = 100;

/// Where the saga takes place.
pub struct Places {
    /// The bus.
    pub bus: String,
    /// What stands in front of the names of its topics, of its groups and of the job.
    pub prefix: String,
    /// The folder of the job's checkpoints.
    pub checkpoints: String,
}

impl Places {
    /// A topic of the saga.
    pub fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

/// Somebody orders something.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// Its identifier.
    pub order_id: String,
    /// What.
    pub item: String,
    /// The last digits of the card that pays.
    pub card: String,
    /// For how much.
    pub cents: i64,
    /// When, in milliseconds since 1970.
    pub happened_ms: i64,
}

/// What a service answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Answer {
    /// The order that it is about.
    pub order_id: String,
    /// What was ordered.
    pub item: String,
    /// For how much.
    pub cents: i64,
    /// Why not, where the answer is no.
    pub reason: Option<String>,
    /// When, in milliseconds since 1970.
    pub happened_ms: i64,
}

/// The order number `n`.
fn order(n: u32) -> Order {
    let items = ["kettle", "teapot", "cup", "tray", "samovar"];
    let cards = ["4242", "1881", "0341"];
    Order {
        order_id: format!("order-{n}"),
        item: items[(n % 11) as usize % items.len()].to_owned(),
        card: cards[(n % 7) as usize % cards.len()].to_owned(),
        cents: 500 + i64::from(n * 37 % 200) * 100,
        happened_ms: OPENING + i64::from(n) * STEP,
    }
}

/// How long a service thinks about an order, in milliseconds.
fn thinking(order_id: &str) -> i64 {
    let hash = order_id.bytes().fold(7_u32, |sum, byte| sum.wrapping_mul(31) + u32::from(byte));
    i64::from(hash % 12_000)
}

/// Places `orders` orders.
async fn shop(bus: &dyn EventBus, topic: &str, orders: u32) -> Result<(), BusError> {
    for first in (0..orders).step_by(UNDER_WAY as usize) {
        let some = (first..orders.min(first + UNDER_WAY)).map(order).map(|order| {
            let envelope =
                Envelope::of("OrderPlaced.v1")?.source("shop").at(order.happened_ms * 1000);
            envelope.conversation_id(&order.order_id).json(order.order_id.as_str(), &order)
        });
        let some: Vec<Event> = some.collect::<Result<_, _>>()?;
        let published = some.into_iter().map(|event| bus.publish(topic, event));
        futures::future::try_join_all(published).await?;
    }
    Ok(())
}

/// Decides about an order: the type of the answer, and the answer.
fn pay(event: &Event) -> Result<(&'static str, Answer), BusError> {
    let order: Order = event.json()?;
    let reason = match (order.card.as_str(), order.cents) {
        ("0341", _) => Some("the card has expired"),
        (_, 15_000..) => Some("the card's limit is reached"),
        _ => None,
    };
    let happened_ms = order.happened_ms + thinking(&order.order_id);
    let Order { order_id, item, cents, .. } = order;
    let kind = if reason.is_none() { "PaymentAuthorised.v1" } else { "PaymentDeclined.v1" };
    Ok((kind, Answer { order_id, item, cents, reason: reason.map(str::to_owned), happened_ms }))
}

/// Decides about what was paid for; what was not needs no answer.
fn reserve(event: &Event) -> Result<Option<(&'static str, Answer)>, BusError> {
    let payment: Answer = event.json()?;
    if payment.reason.is_some() {
        return Ok(None);
    }
    let reason = (payment.item == "samovar").then(|| "out of stock".to_owned());
    let kind = if reason.is_none() { "StockReserved.v1" } else { "StockRejected.v1" };
    let happened_ms = payment.happened_ms + thinking(&payment.item);
    Ok(Some((kind, Answer { reason, happened_ms, ..payment })))
}

/// A service: reads so many events, answers each, and acknowledges it when its answer is on the bus. One that
/// dies in between answers an event again, under the same id.
async fn service(
    bus: &dyn EventBus,
    mut events: Subscription,
    (name, topic): (&str, &str),
    count: u32,
    decide: impl Fn(&Event) -> Result<Option<(&'static str, Answer)>, BusError>,
) -> Result<(), BusError> {
    for _ in 0..count {
        let delivery: Delivery = events.next().await.ok_or(BusError::Closed)??;
        if let Some((kind, answer)) = decide(&delivery.event)? {
            let cause = Envelope::read(&delivery.event)?;
            let id = format!("{name}-{}", cause.id());
            let envelope = Envelope::of(kind)?.source(name).with_id(id).caused_by(&cause);
            let event = envelope.at(answer.happened_ms * 1000).json(&*answer.order_id, &answer)?;
            bus.publish(topic, event).await?;
        }
        delivery.ack();
    }
    events.close().await
}

/// All services, until they have dealt with `orders` orders.
pub async fn saga(bus: &dyn Replay, places: &Places, orders: u32) -> Result<(), BusError> {
    let [placed, paid, stock] = ["orders", "payments", "stock"].map(|name| places.topic(name));
    let (payments, inventory) = (places.topic("payments"), places.topic("inventory"));
    let to_pay = bus.subscribe(&[&placed], &payments).await?;
    let to_reserve = bus.subscribe(&[&paid], &inventory).await?;
    let pays = |event: &Event| pay(event).map(Some);
    futures::future::try_join3(
        shop(bus, &placed, orders),
        service(bus, to_pay, ("payments", &paid), orders, pays),
        service(bus, to_reserve, ("inventory", &stock), orders, reserve),
    )
    .await?;
    Ok(())
}

/// The job over what the topics hold.
pub fn metrics(places: &Places) -> tidemill::Result<Job> {
    let variable = |name: &str| match name {
        "BUS" => Some(places.bus.clone()),
        "ORDERS" => Some(places.topic("orders")),
        "PAYMENTS" => Some(places.topic("payments")),
        "STOCK" => Some(places.topic("stock")),
        "METRICS" => Some(places.topic("order-metrics")),
        "DECLINED" => Some(places.topic("orders-declined")),
        _ => None,
    };
    let registry = Registry::new(tidemill::cli::connectors());
    let planned = tidemill::sql::plan("order_saga.sql", JOB, &variable, &registry)
        .map_err(|errors| tidemill::Error::configuration(errors.to_string()))?;
    let mut settings = JobSettings::named(places.topic("order-saga"));
    let interval = std::time::Duration::from_secs(1);
    settings.checkpoints = Some(CheckpointSettings::new(&places.checkpoints, interval));
    Ok(Job::from_graph(planned.graph, settings))
}

/// Runs it on the bus that `BUS` names, in memory where it names none.
pub fn main() -> tidemill::Result<()> {
    let folder = std::env::temp_dir().join(format!("order-saga-{}", std::process::id()));
    let places = Places {
        bus: std::env::var("BUS").unwrap_or_else(|_| "memory://shop".to_owned()),
        prefix: String::new(),
        checkpoints: folder.display().to_string(),
    };
    let bus = connect(&places.bus)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(saga(&*bus, &places, 600))?;
    let summary = metrics(&places)?.run_blocking()?;
    for rows in &summary.ledgers {
        assert!(rows.balances(), "no event is lost silently");
        println!("{}: {} in, {} counted", rows.node, rows.records_in, rows.counted);
    }
    Ok(())
}
