//! The events of the Nexmark benchmark, against the facts that its definition states.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::cast::AsArray;
use arrow::array::types::*;
use arrow::array::{Array, StructArray, UInt32Array};
use arrow::datatypes::{DataType, Fields, TimeUnit};

use tidemill_core::need::Need;

use super::*;
use crate::NexmarkFactory;

const BASE: i64 = 1_436_918_400_000_000;

fn field(name: &str) -> Field {
    let data_type = match name {
        "id" | "initialBid" | "reserve" | "seller" | "category" | "auction" | "bidder"
        | "price" => DataType::Int64,
        "dateTime" | "expires" => DataType::Timestamp(TimeUnit::Microsecond, None),
        _ => DataType::Utf8View,
    };
    Field::new(name, data_type, true)
}

const PERSON: [&str; 8] =
    ["id", "name", "emailAddress", "creditCard", "city", "state", "dateTime", "extra"];
const AUCTION: [&str; 10] = [
    "id",
    "itemName",
    "description",
    "initialBid",
    "reserve",
    "dateTime",
    "expires",
    "seller",
    "category",
    "extra",
];
const BID: [&str; 7] = ["auction", "bidder", "price", "channel", "url", "dateTime", "extra"];

fn row(name: &str, fields: &[&str]) -> Field {
    let fields: Fields = fields.iter().map(|name| field(name)).collect();
    Field::new(name, DataType::Struct(fields), true)
}

fn events() -> Vec<Field> {
    vec![
        Field::new("event_type", DataType::Int32, true),
        row("person", &PERSON),
        row("auction", &AUCTION),
        row("bid", &BID),
    ]
}

fn source(columns: Vec<Field>, options: &[(&str, &str)]) -> Arc<dyn Source> {
    NexmarkFactory.source(&table(columns, options)).unwrap()
}

fn flat(kind: &str, fields: &[&str], options: &[(&str, &str)]) -> RecordBatch {
    let columns = fields.iter().map(|name| field(name)).collect();
    let options = [&[("nexmark.table", kind)], options].concat();
    rows(source(columns, &options).as_ref(), 0, 8_192)
}

fn numbers<'a>(rows: &'a RecordBatch, name: &str) -> &'a [i64] {
    rows.column_by_name(name).unwrap().as_primitive::<Int64Type>().values()
}

fn times<'a>(rows: &'a RecordBatch, name: &str) -> &'a [i64] {
    rows.column_by_name(name).unwrap().as_primitive::<TimestampMicrosecondType>().values()
}

fn share(of: impl Iterator<Item = bool>) -> f64 {
    let (mut yes, mut all) = (0, 0);
    of.for_each(|is| (yes, all) = (yes + u32::from(is), all + 1));
    f64::from(yes) / f64::from(all)
}

fn near(share: f64, expected: f64) -> bool {
    (share - expected).abs() < 0.03
}

#[test]
fn fifty_events_are_one_person_three_auctions_and_forty_six_bids() {
    let rows = rows(source(events(), &[("events.num", "1000")]).as_ref(), 0, 333);
    let types = rows.column(0).as_primitive::<Int32Type>().values();
    for round in types.chunks(50) {
        let count = |kind| round.iter().filter(|t| **t == kind).count();
        assert_eq!((count(0), count(1), count(2)), (1, 3, 46));
    }
    for (event, kind) in types.iter().enumerate() {
        for column in 0..3 {
            assert_eq!(rows.column(column + 1).is_valid(event), *kind as usize == column);
        }
    }
}

#[test]
fn flat_and_projected_tables_hold_the_same_values_as_the_events() {
    let all = rows(source(events(), &[("events.num", "2000"), ("seed", "9")]).as_ref(), 0, 100);
    for (kind, names) in [("person", &PERSON as &[&str]), ("auction", &AUCTION), ("bid", &BID)] {
        let nested: &StructArray = all.column_by_name(kind).unwrap().as_struct();
        let valid = arrow::compute::is_not_null(nested).unwrap();
        let flat_rows = flat(kind, names, &[("events.num", "2000"), ("seed", "9")]);
        for name in names {
            let expected = nested.column_by_name(name).unwrap();
            let expected = arrow::compute::filter(expected, &valid).unwrap();
            assert_eq!(flat_rows.column_by_name(name).unwrap(), &expected, "{kind}.{name}");
            let alone = flat(kind, &[name], &[("events.num", "2000"), ("seed", "9")]);
            assert_eq!(alone.column(0), &expected, "{kind}.{name} alone");
        }
    }
}

#[test]
fn what_a_job_does_not_look_at_is_null_and_the_rest_as_it_was() {
    let fields = |names: &[&str]| Need::Fields(names.iter().map(|n| (*n).to_owned()).collect());
    let needs =
        [Need::All, fields(&["name"]), Need::Nothing, fields(&["price", "channel", "dateTime"])];
    let whole = source(events(), &[("events.num", "20000"), ("seed", "9")]);
    let all = rows(whole.as_ref(), 0, 20_000);
    // Batches above and below those that nulls are kept for.
    for max_rows in [100, 20_000] {
        let some = rows(whole.reading(&needs).unwrap().as_ref(), 0, max_rows);
        assert_eq!(some.column(0), all.column(0));
        for (column, need) in needs.iter().enumerate().skip(1) {
            let (some, all): (&StructArray, _) =
                (some.column(column).as_struct(), all.column(column));
            assert_eq!(some.nulls(), all.nulls(), "whether it is null is always told");
            for (field, values) in some.fields().iter().zip(some.columns()) {
                let expected = all.as_struct().column_by_name(field.name()).unwrap();
                match need.of_field(field.name()) {
                    Need::All => assert_eq!(values, expected, "{}", field.name()),
                    _ => assert_eq!(values.null_count(), values.len(), "{}", field.name()),
                }
            }
        }
    }
    let columns = vec![field("price").with_nullable(false), field("url"), field("bidder")];
    let options = [("nexmark.table", "bid"), ("events.num", "2000")];
    let whole = source(columns, &options);
    let needs = [Need::Nothing, Need::Nothing, Need::All];
    let some = rows(whole.reading(&needs).unwrap().as_ref(), 0, 8_192);
    let all = rows(whole.as_ref(), 0, 8_192);
    assert_eq!(some.column(0), all.column(0), "NOT NULL is never null");
    assert_eq!(some.column(1).null_count(), some.num_rows());
    assert_eq!(some.column(2), all.column(2));
}

#[test]
fn splits_interleave_the_same_events_and_replay_exactly() {
    let options =
        |splits| [("events.num", "1003"), ("splits", splits), ("base-time", "2020-01-01 00:00:00")];
    let columns = || vec![row("bid", &["auction", "bidder", "price", "dateTime"])];
    let whole = rows(source(columns(), &options("1")).as_ref(), 0, 8_192);
    let split = source(columns(), &options("3"));
    for number in 0..3 {
        let part = rows(split.as_ref(), number, 10);
        let own = UInt32Array::from_iter_values((number as u32..1003).step_by(3));
        let expected = arrow::compute::take_record_batch(&whole, &own).unwrap();
        assert_eq!(part, expected);
    }
    assert_replays(split.as_ref());
    let wrong = split.open(
        &SplitId::new("nexmark/1"),
        Some(&Offset("3".to_owned())),
        &context(&Arc::default()),
    );
    assert!(wrong.err().unwrap().to_string().contains("'splits'"));
}

#[test]
fn an_event_is_the_same_in_any_company() {
    let options =
        [("person.proportion", "2"), ("bid.proportion", "5"), ("next-event.rate", "3000")];
    let recipe = crate::nexmark::recipe(&table(events(), &options)).unwrap();
    let all: Vec<u64> = (0..5_000).collect();
    let whole = recipe.rows(&all, BASE).unwrap();
    let stream = crate::random::Stream::new(5, 0);
    let anyhow = (0..3_000).map(|row| stream.draw(row).below(5_000));
    let there_and_back = (0..900).chain((0..900).rev());
    let with_gaps = (7..5_000).step_by(7).flat_map(|n| [n, n]);
    let orders: [Vec<u64>; 4] =
        [anyhow.collect(), there_and_back.collect(), with_gaps.collect(), vec![4_321]];
    for numbers in orders {
        let places = UInt32Array::from_iter_values(numbers.iter().map(|n| *n as u32));
        let expected = arrow::compute::take_record_batch(&whole, &places).unwrap();
        assert_eq!(recipe.rows(&numbers, BASE).unwrap(), expected);
    }
}

#[test]
fn an_event_that_was_generated_once_is_so_for_ever() {
    let bids = flat("bid", &BID, &[("events.num", "50")]);
    let row = |row: usize| -> Vec<String> {
        let text =
            |c: &Arc<dyn Array>| arrow::util::display::array_value_to_string(c, row).unwrap();
        bids.columns().iter().map(text).collect()
    };
    let first = [
        "1008",
        "1001",
        "54533",
        "channel-7458",
        "https://www.nexmark.com/huwc/fieg/tdhh/item.htm?query=1&channel_id=1152909312",
        "2015-07-15T00:00:00",
        "nyiuvlonlgqpxdabreoymcczudmbnapicdvobikrlrosvkqvmvwgmjtenbzdv",
    ];
    assert_eq!(row(0), first);
    assert_eq!(row(45)[..4], ["1000", "1003", "80549", "channel-4624"]);
    let auctions = flat("auction", &AUCTION[..9], &[("events.num", "50"), ("seed", "1")]);
    let numbers = ["initialBid", "reserve", "seller", "category"].map(|n| numbers(&auctions, n)[2]);
    assert_eq!(numbers, [786_771, 40_348_719, 1_000, 10]);
}

#[test]
fn event_time_advances_by_the_rate() {
    let bids = flat("bid", &["dateTime"], &[("events.num", "50"), ("next-event.rate", "400")]);
    let times = times(&bids, "dateTime");
    assert_eq!(times[0], BASE + 10_000, "event 4 of 400 a second");
    assert_eq!(times[1], BASE + 12_000, "12.5 ms, in whole milliseconds");
    assert_eq!(times[45], BASE + 122_000);
}

#[test]
fn people_have_consecutive_identifiers_and_plausible_lives() {
    let people = flat("person", &PERSON, &[("events.num", "50000")]);
    assert_eq!(numbers(&people, "id"), (1_000..2_000).collect::<Vec<_>>());
    let text = |name| people.column_by_name(name).unwrap().as_string_view().iter().flatten();
    assert!(text("creditCard").all(|c| c.len() == 19 && c.split(' ').all(|four| four.len() == 4)));
    assert!(text("emailAddress").all(|e| e.contains('@') && e.ends_with(".com")));
    assert_eq!(text("state").collect::<BTreeSet<_>>().len(), 6);
    assert_eq!(text("city").collect::<BTreeSet<_>>().len(), 10);
    assert_eq!(text("name").collect::<BTreeSet<_>>().len(), 99);
}

#[test]
fn auctions_are_hot_for_three_in_four_sellers_and_end_when_they_should() {
    let auctions = flat("auction", &AUCTION, &[("events.num", "200000")]);
    assert_eq!(numbers(&auctions, "id"), (1_000..13_000).collect::<Vec<_>>());
    let sellers = numbers(&auctions, "seller");
    let hot = share(sellers.iter().map(|seller| seller % 100 == 0));
    assert!(near(hot, 0.75 + 0.25 / 100.0), "{hot}");
    let categories = BTreeSet::from_iter(numbers(&auctions, "category").iter().copied());
    assert_eq!(Vec::from_iter(categories), [10, 11, 12, 13, 14]);
    let reserves = numbers(&auctions, "reserve").iter().zip(numbers(&auctions, "initialBid"));
    assert!(reserves.into_iter().all(|(reserve, initial)| reserve >= &(initial + 100)));
    // 100 auctions take 1666 events, which is 166.6 ms at 10 000 a second.
    let lives: Vec<i64> = times(&auctions, "expires")
        .iter()
        .zip(times(&auctions, "dateTime"))
        .map(|(expires, begun)| expires - begun)
        .collect();
    let mean = lives.iter().sum::<i64>() / lives.len() as i64;
    assert!(lives.iter().all(|l| (1_000..=340_000).contains(l)), "{lives:?}");
    assert!((160_000..174_000).contains(&mean), "{mean}");
}

#[test]
fn bids_go_to_hot_auctions_from_hot_bidders_through_hot_channels() {
    let bids = flat("bid", &BID, &[("events.num", "200000")]);
    let hot_auctions = share(numbers(&bids, "auction").iter().map(|auction| auction % 100 == 0));
    assert!(near(hot_auctions, 0.5 + 0.5 / 100.0), "{hot_auctions}");
    let hot_bidders = share(numbers(&bids, "bidder").iter().map(|bidder| bidder % 100 == 1));
    assert!(near(hot_bidders, 0.75 + 0.25 / 100.0), "{hot_bidders}");
    let mut channels = BTreeMap::<&str, usize>::new();
    let texts = |name| bids.column_by_name(name).unwrap().as_string_view().iter().flatten();
    texts("channel").for_each(|channel| *channels.entry(channel).or_default() += 1);
    for hot in ["Google", "Facebook", "Baidu", "Apple"] {
        assert!(near(channels[hot] as f64 / bids.num_rows() as f64, 0.125), "{hot}");
    }
    assert!(channels.len() > 9_900, "{}", channels.len());
    assert!(texts("url").all(|url| url.starts_with("https://www.nexmark.com/")));
    let identified = share(texts("url").map(|url| url.contains("&channel_id=")));
    assert!(near(identified, 0.45), "{identified}");
}

#[test]
fn bids_name_people_and_auctions_that_are_there_or_about_to_come() {
    let options =
        [("events.num", "200000"), ("bid.hot-ratio.auctions", "1"), ("bid.hot-ratio.bidders", "1")];
    let bids = flat("bid", &["auction", "bidder"], &options);
    for (number, (auction, bidder)) in
        numbers(&bids, "auction").iter().zip(numbers(&bids, "bidder")).enumerate()
    {
        let round = number as i64 / 46;
        let (last_auction, last_person) = (1_000 + round * 3 + 2, 1_000 + round);
        assert!((last_auction - 100..=last_auction + 10).contains(auction) || round < 40);
        assert!((last_person - 999..=last_person + 10).contains(bidder) || round < 1_000);
        assert!(*auction >= 1_000 && *bidder >= 1_000);
    }
}

#[test]
fn prices_spread_over_six_orders_of_magnitude() {
    let bids = flat("bid", &["price"], &[("events.num", "100000")]);
    let prices = numbers(&bids, "price");
    for decade in 0..6 {
        let cents = 10i64.pow(decade + 2)..10i64.pow(decade + 3);
        let share = share(prices.iter().map(|price| cents.contains(price)));
        assert!(near(share, 1.0 / 6.0), "{cents:?}: {share}");
    }
}

#[test]
fn events_have_the_sizes_that_the_benchmark_defines() {
    let mean = |kind, names: &[&str]| {
        let rows = flat(kind, names, &[("events.num", "50000")]);
        let bytes = |row| {
            let size = |column: &Arc<dyn Array>| match column.data_type() {
                DataType::Utf8View => column.as_string_view().value(row).len(),
                _ => 8,
            };
            rows.columns().iter().map(size).sum::<usize>()
        };
        let total: usize = (0..rows.num_rows()).map(bytes).sum();
        total as f64 / rows.num_rows() as f64
    };
    let person =
        mean("person", &["id", "name", "emailAddress", "creditCard", "city", "state", "extra"]);
    assert!((195.0..205.0).contains(&person), "{person}");
    let auction = mean("auction", &AUCTION);
    assert!((505.0..515.0).contains(&auction), "500 and an auction's own time: {auction}");
    let bid = mean("bid", &["auction", "bidder", "price", "dateTime", "extra"]);
    assert!((98.0..102.0).contains(&bid), "{bid}");
    for (size, lengths) in [("32768", 26_000..40_000), ("40", 4..16), ("32", 0..1)] {
        let bids = flat("bid", &["extra"], &[("events.num", "5000"), ("bid.avg-size", size)]);
        let extra = bids.column(0).as_string_view();
        extra.to_data().validate_full().unwrap();
        assert!(extra.iter().flatten().all(|extra| lengths.contains(&extra.len())), "{size}");
    }
}

#[test]
fn a_split_without_a_row_of_its_kind_ends_all_the_same() {
    let options = [("nexmark.table", "person"), ("events.num", "100000"), ("splits", "2")];
    let source = source(vec![field("id")], &options);
    assert_eq!(rows(source.as_ref(), 0, 1).num_rows(), 2_000);
    assert_eq!(rows(source.as_ref(), 1, 1).num_rows(), 0, "people have even event numbers");
}

#[test]
fn wrong_declarations_say_what_there_is() {
    let bid = ("nexmark.table", "bid");
    let reason =
        |columns, options: &[(&str, &str)]| refused(&NexmarkFactory, columns, options).to_string();
    assert!(reason(vec![field("pric")], &[bid]).contains("auction, bidder, price, channel"));
    let text = Field::new("price", DataType::Utf8View, true);
    assert!(reason(vec![text], &[bid]).contains("it is BIGINT"));
    assert!(reason(vec![row("bid", &["cost"])], &[]).contains("no field 'cost'"));
    assert!(reason(vec![field("price")], &[]).contains("'nexmark.table'"));
    let rates = [bid, ("first-event.rate", "10"), ("next-event.rate", "20")];
    assert!(reason(vec![field("price")], &rates).contains("constant rate"));
    let size = [bid, ("bid.avg-size", "1 gb")];
    assert!(reason(vec![field("price")], &size).contains("bid.avg-size"));
}
