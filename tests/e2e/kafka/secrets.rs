//! Invariant 10: passwords appear in nothing that a job says, serves or keeps, wherever they were given,
//! and whether they are right, wrong, or never asked for. With every log there is, librdkafka's too.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;

use tidemill_registry::Server;

use super::broker::{Broker, Topic};
use super::services::OwnBroker;
use crate::canaries::{self, CANARY, Secretive, assert_nowhere, base64, guises};

const JOB: &str = "
SET 'pipeline.name' = 'secretive';
SET 'execution.checkpointing.dir' = 'checkpoints';
SET 'execution.checkpointing.interval' = '50 ms';
CREATE TABLE clicks (
  user_id BIGINT, ts TIMESTAMP(3), amount BIGINT,
  WATERMARK FOR ts AS ts - INTERVAL '2' SECOND
) WITH ('connector' = 'kafka', 'topic' = '{input}', 'scan.startup.mode' = 'earliest-offset',
        'properties.group.id' = '{output}', 'rate-limit' = '${RATE:-10000000}',
        'format' = '{source}', 'properties.debug' = 'all', {options});
CREATE TABLE kept (user_id BIGINT, amount BIGINT)
WITH ('connector' = 'kafka', 'topic' = '{output}', 'sink.delivery-guarantee' = 'exactly-once',
      'sink.transactional-id-prefix' = '{output}', 'format' = '{sink}',
      'properties.debug' = 'all', {options});
INSERT INTO kept SELECT user_id, amount FROM clicks;
";

/// Where a secret stands.
struct Case {
    name: &'static str,
    /// Options of both tables.
    options: String,
    /// The environment.
    variables: Vec<(&'static str, String)>,
    /// The formats of source and sink.
    formats: [&'static str; 2],
}

impl Case {
    fn new(name: &'static str, options: impl Into<String>) -> Self {
        Self { name, options: options.into(), variables: Vec::new(), formats: ["json"; 2] }
    }

    fn with(mut self, variable: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((variable, value.into()));
        self
    }
}

/// A broker with accounts: the shared one where its accounts are known, or one of this test's own.
struct Accounts {
    own: Option<OwnBroker>,
}

impl Accounts {
    fn find() -> Self {
        let shared = std::env::var("KAFKA_SASL_SSL_BROKERS").is_ok();
        Self { own: (!shared).then(OwnBroker::up) }
    }

    fn variable(&self, name: &str) -> String {
        let own = self.own.as_ref().map(|own| own.variable(name).to_owned());
        own.unwrap_or_else(|| std::env::var(name).unwrap())
    }

    /// The options of a user who says who they are in another way than by `login`.
    fn reach(&self, mechanism: &str, login: &str) -> String {
        let (brokers, ca) = (self.variable("KAFKA_SASL_SSL_BROKERS"), self.variable("KAFKA_CA"));
        format!(
            "'properties.bootstrap.servers' = '{brokers}', 'properties.ssl.ca.location' = '{ca}',
             'properties.security.protocol' = 'SASL_SSL', 'properties.sasl.mechanism' = '{mechanism}'
             {login}"
        )
    }
}

/// Every place where the password of a user may stand.
fn places(accounts: &Accounts, user: &str, password: &str) -> Vec<Case> {
    let named = format!(", 'properties.sasl.username' = '{user}'");
    let scram = |login: &str| accounts.reach("SCRAM-SHA-256", &format!("{named}{login}"));
    let property = format!(", 'properties.sasl.password' = '{password}'");
    let login = |module: &str| {
        format!(
            ", 'properties.sasl.jaas.config' = 'org.apache.kafka.common.security.{module} required \
             username=\"{user}\" password=\"{password}\";'"
        )
    };
    vec![
        Case::new("a property", scram(&property)),
        Case::new("a property, PLAIN", accounts.reach("PLAIN", &format!("{named}{property}"))),
        Case::new("a file", scram(", 'properties.sasl.password.file' = 'secret'")),
        Case::new("a variable in the text", scram(", 'properties.sasl.password' = '${SECRET}'"))
            .with("SECRET", password),
        Case::new("the environment", scram("")).with("KAFKA_SASL_PASSWORD", password),
        Case::new("a file of the environment", scram(""))
            .with("KAFKA_SASL_PASSWORD_FILE", "secret"),
        Case::new(
            "a JAAS configuration",
            accounts.reach("SCRAM-SHA-256", &login("scram.ScramLoginModule")),
        ),
        Case::new(
            "a JAAS configuration, PLAIN",
            accounts.reach("PLAIN", &login("plain.PlainLoginModule")),
        ),
    ]
}

/// Lays a case out over two topics; see [`canaries::with_job`].
fn with_job<T>(
    case: &Case,
    topics: (&Topic, &Topic),
    user: &str,
    secret: &str,
    run: impl FnOnce(&Secretive<'_>) -> T,
) -> T {
    let job = JOB
        .replace("{input}", topics.0.name())
        .replace("{output}", topics.1.name())
        .replace("{source}", case.formats[0])
        .replace("{sink}", case.formats[1])
        .replace("{options}", &case.options);
    canaries::with_job(case.name, &job, &case.variables, (user, secret), run)
}

/// Runs until there is a checkpoint with the clicks in it, and returns all that was served.
fn served(job: &Secretive<'_>, input: &Topic, group: &str) -> Vec<u8> {
    let group = input.group(group);
    job.served(|running| running.until("a checkpoint of all clicks", || group.committed() > 0))
}

#[test]
fn a_password_that_lets_a_job_in_is_said_served_and_kept_nowhere() {
    let accounts = Accounts::find();
    let (user, password) =
        (accounts.variable("KAFKA_TEST_USER"), accounts.variable("KAFKA_TEST_PASSWORD"));
    let broker = Broker::at(accounts.variable("KAFKA_BROKERS"));
    let input = broker.topic("clicks", 2);
    input.fill(4, 400);
    for case in places(&accounts, &user, &password) {
        let output = broker.topic("kept", 1);
        with_job(&case, (&input, &output), &user, &password, |job| {
            let served = served(job, &input, output.name());
            assert_nowhere(&served, &guises(&user, &password), case.name);
            let log = fs::read_to_string(job.folder.join("log")).unwrap();
            assert!(log.contains("SASL"), "{}: librdkafka's log is missing: {log}", case.name);
            let checkpoints = fs::read_dir(job.folder.join("checkpoints")).unwrap();
            assert!(checkpoints.count() > 0, "{}: there are checkpoints", case.name);
        });
    }
}

#[test]
fn a_password_that_is_refused_or_never_asked_for_is_in_no_error() {
    let accounts = Accounts::find();
    let user = accounts.variable("KAFKA_TEST_USER");
    let broker = Broker::at(accounts.variable("KAFKA_BROKERS"));
    let (input, output) = (broker.topic("clicks", 1), broker.topic("kept", 1));
    // A registry is asked with the first row.
    input.fill(4, 10);
    let refused = |case: &Case| {
        with_job(case, (&input, &output), &user, CANARY, |job| {
            let (code, said) = job.failed();
            assert!(matches!(code, Some(1 | 78)), "{}: {said}", case.name);
            assert_nowhere(said.as_bytes(), &guises(&user, CANARY), &format!("{}: run", case.name));
        });
    };
    let token = format!(", 'properties.sasl.oauthbearer.token' = '{CANARY}'");
    let mut cases = places(&accounts, &user, CANARY);
    cases.push(Case::new("a token", accounts.reach("OAUTHBEARER", &token)));
    cases.extend(registries(&accounts.variable("KAFKA_BROKERS"), &user));
    // Where nobody answers, that takes its time.
    let elsewhere = |name, brokers: &str| {
        let options = &cases[0].options;
        Case::new(name, options.replace(&accounts.variable("KAFKA_SASL_SSL_BROKERS"), brokers))
    };
    let silent = [
        elsewhere("a broker that is not there", "127.0.0.1:1"),
        elsewhere("a broker without security", &accounts.variable("KAFKA_BROKERS")),
    ];
    thread::scope(|scope| {
        for case in &silent {
            scope.spawn(|| refused(case));
        }
        cases.iter().for_each(refused);
    });
}

/// Every place where a registry's password may stand; the registry is not there.
fn registries(brokers: &str, user: &str) -> Vec<Case> {
    const DEADLINE: &str = "'avro-confluent.deadline' = '100 ms'";
    let case = |name, url: &str, more: &str| {
        let options = format!(
            "'properties.bootstrap.servers' = '{brokers}', 'avro-confluent.url' = '{url}',
             {DEADLINE}{more}"
        );
        Case { formats: ["json", "avro-confluent"], ..Case::new(name, options) }
    };
    let nowhere = "http://127.0.0.1:1";
    let with_user = format!("http://{user}:{CANARY}@127.0.0.1:1");
    let info = format!(", 'avro-confluent.basic-auth.user-info' = '{user}:{CANARY}'");
    let bearer = format!(", 'avro-confluent.bearer-auth.token' = '{CANARY}'");
    let from_file = ", 'avro-confluent.bearer-auth.token-file' = 'secret'";
    let environment = format!("'properties.bootstrap.servers' = '{brokers}', {DEADLINE}");
    vec![
        case("a registry's address", &with_user, ""),
        case("a registry's user-info", nowhere, &info),
        case("a registry's token", nowhere, &bearer),
        case("a registry's token in a file", nowhere, from_file),
        case("a registry's address that is none", &format!("http://{user}:{CANARY}@:x"), ""),
        Case {
            formats: ["json", "avro-confluent"],
            ..Case::new("a registry of the environment", environment)
        }
        .with("SCHEMA_REGISTRY_URL", with_user),
    ]
}

#[test]
fn a_password_that_a_registry_asks_for_is_said_served_and_kept_nowhere() {
    let broker = Broker::shared();
    let input = broker.topic("clicks", 2);
    input.fill(4, 400);
    let basic = format!("Basic {}", base64(format!("somebody:{CANARY}").as_bytes()));
    let user_info = |url: &str| url.replace("//", &format!("//somebody:{CANARY}@"));
    type Options<'a> = &'a dyn Fn(&str) -> String;
    let ways: [(&str, &str, Options<'_>); 3] = [
        ("a registry's address", &basic, &|url| {
            format!("'avro-confluent.url' = '{}'", user_info(url))
        }),
        ("a registry's user-info", &basic, &|url| {
            format!(
                "'avro-confluent.url' = '{url}',
                 'avro-confluent.basic-auth.user-info' = 'somebody:{CANARY}'"
            )
        }),
        ("a registry's token in a file", &format!("Bearer {CANARY}"), &|url| {
            format!(
                "'avro-confluent.url' = '{url}', 'avro-confluent.bearer-auth.token-file' = 'secret'"
            )
        }),
    ];
    for (name, header, options) in ways {
        let registry = Server::new().authorization(header).start("127.0.0.1:0").unwrap();
        let output = broker.topic("kept", 1);
        let options = format!(
            "'properties.bootstrap.servers' = '{}', {}",
            broker.addresses(),
            options(&registry.url())
        );
        let case = Case { formats: ["json", "avro-confluent"], ..Case::new(name, options) };
        with_job(&case, (&input, &output), "somebody", CANARY, |job| {
            let served = served(job, &input, output.name());
            assert_nowhere(&served, &guises("somebody", CANARY), name);
        });
        assert!(!registry.requests().is_empty(), "{name}: the registry was not asked");
    }
}

#[test]
fn an_address_that_is_none_is_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let letters = folder.path().join("letters");
    fs::create_dir(&letters).unwrap();
    let letters = letters.to_str().unwrap();
    let topic = format!("kafka://127.0.0.1:1/t?sasl.password={CANARY}");
    let brokers = format!("kafka://127.0.0.1:1?sasl.password={CANARY}");
    let bucket = format!("s3://key:{CANARY}@x/y");
    let mut said: Vec<Vec<String>> = Vec::new();
    for (n, address) in [&topic, &brokers, &bucket].into_iter().enumerate() {
        let job = folder.path().join(format!("{n}.sql"));
        let sql = format!(
            "SET 'dead-letters' = '{address}';
             CREATE TABLE i (n BIGINT) WITH ('connector' = 'filesystem', 'path' = '{letters}',
                                             'format' = 'json');
             CREATE TABLE o (n BIGINT) WITH ('connector' = 'blackhole');
             INSERT INTO o SELECT n FROM i;"
        );
        fs::write(&job, sql).unwrap();
        let job = job.to_str().unwrap();
        let commands: [&[&str]; 6] = [
            &["generate", "user-events", "--to", address],
            &["dlq", "ls", address],
            &["dlq", "show", address, "0:0"],
            &["dlq", "replay", letters, "--to", address],
            &["dlq", "replay", letters, "--to", address, "--dry-run"],
            &["run", job],
        ];
        said.extend(commands.map(|c| c.iter().map(|word| (*word).to_owned()).collect()));
    }
    for arguments in said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidemill"));
        command.args(&arguments).current_dir(folder.path()).env("TIDEMILL_LOG", "trace");
        let ended = command.stdin(Stdio::null()).output().unwrap();
        let text = [ended.stdout, ended.stderr].concat();
        let context = format!("{arguments:?}: {}", String::from_utf8_lossy(&text));
        assert_eq!(ended.status.code(), Some(78), "{context}");
        assert_nowhere(&text, &guises("key", CANARY), &context);
    }
}
