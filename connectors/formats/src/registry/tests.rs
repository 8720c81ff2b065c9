//! The client against the registry of `tools/registry`, on time of the test's own.

use std::sync::Mutex;
use std::time::Duration;

use tidemill_core::ErrorKind;
use tidemill_core::table::Options;
use tidemill_registry::{Running, Server};

use super::*;

/// Time that passes only by waiting.
#[derive(Default)]
struct TestPace {
    waits: Mutex<Vec<Duration>>,
}

impl TestPace {
    fn waits(&self) -> usize {
        self.waits.lock().unwrap().len()
    }
}

impl Pace for TestPace {
    fn elapsed(&self) -> Duration {
        self.waits.lock().unwrap().iter().sum()
    }

    fn wait(&self, time: Duration) {
        self.waits.lock().unwrap().push(time);
    }

    fn chance(&self) -> f64 {
        0.5
    }
}

fn client_of(config: RegistryConfig) -> (Registry, Arc<TestPace>) {
    let pace = Arc::new(TestPace::default());
    (Registry::paced(config, pace.clone()).unwrap(), pace)
}

fn start() -> (Running, Registry, Arc<TestPace>) {
    let server = Server::new().start("127.0.0.1:0").unwrap();
    let (registry, pace) = client_of(RegistryConfig::new(&server.url()).unwrap());
    (server, registry, pace)
}

fn proto(text: &str) -> Definition {
    Definition::new(SchemaKind::Protobuf, text)
}

#[test]
fn what_is_registered_is_found_under_its_id_and_asked_for_once() {
    let (server, registry, _) = start();
    let definition = proto("message A {}");
    let id = registry.register("orders/eu-value", &definition).unwrap();
    assert_eq!(registry.register("orders/eu-value", &definition).unwrap(), id);
    let asked = server.requests().len();
    for _ in 0..3 {
        let schema = registry.clone().schema_by_id(id).unwrap();
        assert_eq!((schema.id, &schema.definition), (id, &definition));
    }
    assert_eq!(server.requests().len(), asked + 1);

    assert_eq!(registry.id_of("orders/eu-value", &definition).unwrap(), Some(id));
    assert_eq!(registry.id_of("orders/eu-value", &proto("message B {}")).unwrap(), None);
    assert_eq!(registry.id_of("nothing", &definition).unwrap(), None);
    assert_eq!(registry.latest("orders/eu-value").unwrap().unwrap().id, id);
    assert_eq!(registry.latest("nothing").unwrap(), None);
}

#[test]
fn a_schema_that_is_there_already_is_used_without_the_right_to_write() {
    let (server, registry, _) = start();
    let definition = proto("message A {}");
    let id = registry.register("a", &definition).unwrap();
    let (other, _) = client_of(RegistryConfig::new(&server.url()).unwrap());
    let before = server.requests().len();
    assert_eq!(other.register("a", &definition).unwrap(), id);
    assert_eq!(server.requests()[before..], ["POST /subjects/a"]);
}

#[test]
fn references_are_followed_and_each_comes_after_its_own() {
    let (_server, registry, _) = start();
    let refer = |name: &str| Reference { name: name.into(), subject: name.into(), version: 1 };
    registry.register("base.proto", &proto("message Base {}")).unwrap();
    let middle = Definition {
        references: vec![refer("base.proto")],
        ..proto("import \"base.proto\"; message Middle { Base b = 1; }")
    };
    registry.register("middle.proto", &middle).unwrap();
    let top = Definition {
        references: vec![refer("middle.proto"), refer("base.proto")],
        ..proto("import \"middle.proto\"; import \"base.proto\"; message Top {}")
    };
    let id = registry.register("top-value", &top).unwrap();
    let schema = registry.schema_by_id(id).unwrap();
    let names: Vec<&str> = schema.imports.iter().map(|import| import.name.as_str()).collect();
    assert_eq!(names, ["base.proto", "middle.proto"]);

    let dangling = Definition { references: vec![refer("nowhere.proto")], ..proto("x") };
    let refused = registry.register("dangling", &dangling).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Permanent);
    assert!(refused.to_string().contains("42201"), "{refused}");
}

#[test]
fn an_unknown_id_is_asked_for_a_few_times_and_then_left_alone() {
    let (server, registry, pace) = start();
    let unknown = registry.schema_by_id(77).unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Permanent);
    assert!(unknown.to_string().contains("no schema with id 77 (error 40403"), "{unknown}");
    assert_eq!(server.requests().len(), UNKNOWN_ATTEMPTS as usize);
    registry.schema_by_id(77).unwrap_err();
    assert_eq!(server.requests().len(), UNKNOWN_ATTEMPTS as usize, "it is remembered");

    // It is asked for again later, and then it is there.
    pace.wait(FAILURE_MEMORY);
    let definitions: Vec<_> = (1..=77).map(|n| proto(&format!("message M{n} {{}}"))).collect();
    for definition in &definitions {
        registry.register("many", definition).unwrap();
    }
    assert_eq!(registry.schema_by_id(77).unwrap().definition, definitions[76]);
}

#[test]
fn ids_out_of_garbage_cost_one_request_each_once_they_are_many() {
    let (server, registry, pace) = start();
    (1..=100).for_each(|id| drop(registry.schema_by_id(id * 1_000).unwrap_err()));
    let patient = (UNKNOWN_STREAK_MAX * UNKNOWN_ATTEMPTS) as usize;
    assert_eq!(server.requests().len(), patient + 100 - UNKNOWN_STREAK_MAX as usize);

    // After a minute an id has its chance again: its schema may be on its way.
    pace.wait(UNKNOWN_MEMORY);
    let before = server.requests().len();
    registry.schema_by_id(7).unwrap_err();
    assert_eq!(server.requests().len() - before, UNKNOWN_ATTEMPTS as usize);
}

#[test]
fn failures_that_pass_are_outlived() {
    let (server, registry, pace) = start();
    let id = registry.register("a", &proto("message A {}")).unwrap();
    server.fail_next(4, 503);
    registry.schema_by_id(id).unwrap();
    assert_eq!(pace.waits(), 4);
    let waits = pace.waits.lock().unwrap().clone();
    assert!(waits.windows(2).all(|w| w[1] == w[0] * 2), "{waits:?}");
}

#[test]
fn an_outage_that_outlasts_the_deadline_is_nobodys_record() {
    let (server, registry, pace) = start();
    server.fail_next(usize::MAX, 500);
    let outage = registry.schema_by_id(1).unwrap_err();
    assert_eq!(outage.kind(), ErrorKind::External);
    assert!(outage.to_string().contains("failed on purpose"), "{outage}");
    assert_eq!(pace.elapsed(), Duration::from_secs(30));
    let asked = server.requests().len();
    assert!(asked < 15, "{asked} requests in 30 s are no hammering");
}

#[test]
fn a_decoder_waits_for_two_seconds_and_asks_again_soon() {
    let (server, registry, pace) = start();
    let id = registry.register("a", &proto("message A {}")).unwrap();
    let registry = registry.for_decoder();
    server.fail_next(usize::MAX, 500);
    let outage = registry.schema_by_id(id).unwrap_err();
    assert_eq!(outage.kind(), ErrorKind::Transient);
    assert_eq!(pace.elapsed(), Duration::from_secs(2));
    server.fail_next(0, 500);
    pace.wait(Duration::from_secs(1));
    registry.schema_by_id(id).unwrap();
}

#[test]
fn nobody_home_is_an_outage_and_the_next_address_is_tried() {
    let gone = Server::new().start("127.0.0.1:0").unwrap().url();
    let (alone, _) = client_of(RegistryConfig::new(&gone).unwrap());
    assert_eq!(alone.schema_by_id(1).unwrap_err().kind(), ErrorKind::External);

    let server = Server::new().start("127.0.0.1:0").unwrap();
    let both = RegistryConfig::new(&format!("{gone}, {}", server.url())).unwrap();
    let (registry, pace) = client_of(both);
    let id = registry.register("a", &proto("message A {}")).unwrap();
    registry.schema_by_id(id).unwrap();
    assert_eq!(pace.waits(), 1, "the address that answered is kept");
}

#[test]
fn an_answer_that_is_too_slow_is_a_failure_that_passes() {
    let server = Server::new().start("127.0.0.1:0").unwrap();
    let limits = (Duration::from_millis(150), Duration::from_secs(5));
    let config = RegistryConfig::new(&server.url()).unwrap().limits(limits.0, limits.1);
    let (registry, pace) = client_of(config);
    server.delay_next(1, Duration::from_secs(60));
    registry.register("a", &proto("message A {}")).unwrap();
    assert_eq!(pace.waits(), 1);
}

const CANARY: &str = "canary-4711";

fn options(pairs: &[(&str, &str)]) -> Options {
    pairs.iter().map(|(name, value)| (format!("protobuf-confluent.{name}"), *value)).collect()
}

fn parse(pairs: &[(&str, &str)]) -> Result<RegistryConfig> {
    RegistryConfig::parse_in("protobuf-confluent", &options(pairs), &|_| None)
}

#[test]
fn who_asks_is_checked_and_no_secret_is_told() {
    // base64 of alice:canary-4711
    let header = "Basic YWxpY2U6Y2FuYXJ5LTQ3MTE=";
    let server = Server::new().authorization(header).start("127.0.0.1:0").unwrap();
    let address = server.url();
    let host = address.strip_prefix("http://").unwrap();
    let user_info = format!("alice:{CANARY}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{user_info}\n")).unwrap();
    let in_url = format!("http://{user_info}@{host}");
    let path = file.path().to_str().unwrap();
    for good in [
        parse(&[("url", &address), ("basic-auth.user-info", &user_info)]),
        parse(&[("url", &address), ("basic-auth.user-info-file", path)]),
        parse(&[("url", &in_url)]),
    ] {
        let config = good.unwrap();
        assert!(!format!("{config:?}").contains("canary"), "{config:?}");
        let (registry, _) = client_of(config);
        assert_eq!(registry.latest("a").unwrap(), None);
        assert!(!registry.describe().contains("canary"));
    }
    for bad in [
        parse(&[("url", &address)]),
        parse(&[("url", &address), ("basic-auth.user-info", &format!("bob:{CANARY}"))]),
        parse(&[("url", &address), ("bearer-auth.token", CANARY)]),
    ] {
        let (registry, pace) = client_of(bad.unwrap());
        let refused = registry.schema_by_id(1).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Configuration);
        assert!(refused.wrong_option().unwrap().starts_with("protobuf-confluent.b"));
        assert!(!refused.to_string().contains("canary"), "{refused}");
        assert_eq!(pace.waits(), 0, "who may not ask does not ask again");
    }
}

#[test]
fn the_environments_credentials_go_to_its_own_registry_only() {
    let environment = |name: &str| match name {
        "SCHEMA_REGISTRY_URL" => Some("http://registry.example:8081".to_owned()),
        "SCHEMA_REGISTRY_BEARER_TOKEN" => Some(CANARY.to_owned()),
        _ => None,
    };
    let of = |pairs: &[(&str, &str)]| {
        RegistryConfig::parse_in("protobuf-confluent", &options(pairs), &environment).unwrap()
    };
    let own = RegistryConfig::new("http://registry.example:8081").unwrap();
    assert_eq!(of(&[]).urls, own.urls);
    assert!(of(&[]).credentials == own.bearer_auth(CANARY).unwrap().credentials);
    let other = of(&[("url", "http://elsewhere.example")]);
    assert!(other.credentials == config::Credentials::None);
}

#[test]
fn options_that_are_wrong_are_named() {
    for (pairs, option) in [
        (&[][..], "url"),
        (&[("url", "")][..], "url"),
        (&[("url", "registry:8081")], "url"),
        (&[("url", "http://u:canary@:80")], "url"),
        (&[("url", "ftp://x")], "url"),
        (&[("url", "http://x"), ("basic-auth.user-info", "canary")], "basic-auth.user-info"),
        (&[("url", "http://x"), ("bearer-auth.token", "canary canary")], "bearer-auth.token"),
        (&[("url", "http://x"), ("bearer-auth.token-file", "/no/such")], "bearer-auth.token-file"),
        (&[("url", "http://x"), ("deadline", "soon")], "deadline"),
    ] {
        let error = parse(pairs).unwrap_err();
        assert_eq!(error.wrong_option(), Some(format!("protobuf-confluent.{option}").as_str()));
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}

#[test]
fn what_is_no_registry_is_said_to_be_none() {
    let server = Server::new().start("127.0.0.1:0").unwrap();
    let elsewhere = format!("{}/wrong/path", server.url());
    let (registry, _) = client_of(RegistryConfig::new(&elsewhere).unwrap());
    let error = registry.schema_by_id(1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permanent);
    assert!(error.to_string().contains("404"), "{error}");
}
