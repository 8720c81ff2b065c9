//! Invariant 10 for Redis: passwords appear in nothing that a job says, serves or keeps, wherever they were
//! given, and whether they are right, wrong, or never asked for.

use super::server::{OwnServer, Server};
use super::streams::Streams;
use crate::canaries::{CANARY, assert_nowhere, guises, with_job};

const USER: &str = "canary-user";

/// What lets the user in.
const PASSWORD: &str = "canary-5be0c7";

const JOB: &str = "
SET 'pipeline.name' = 'secretive';
SET 'execution.checkpointing.dir' = 'checkpoints';
SET 'execution.checkpointing.interval' = '50 ms';
CREATE TABLE clicks (
  user_id BIGINT, ts TIMESTAMP(3), amount BIGINT,
  WATERMARK FOR ts AS ts - INTERVAL '2' SECOND
) WITH ('connector' = 'redis-stream', 'stream' = '{input}', 'scan.startup.mode' = 'earliest-offset',
        'group' = '{output}', 'read' = '{read}', 'format' = 'json', {options});
CREATE TABLE kept (user_id BIGINT, amount BIGINT)
WITH ('connector' = 'redis', 'structure' = 'hash', 'key' = '{output}:{user_id}',
      'sink.delivery-guarantee' = 'exactly-once', {options});
CREATE TABLE counted (user_id BIGINT, amount BIGINT)
WITH ('connector' = 'redis', 'structure' = 'counter', 'key' = 'counted-{output}:{user_id}', {options});
EXECUTE STATEMENT SET BEGIN
INSERT INTO kept SELECT user_id, amount FROM clicks;
INSERT INTO counted SELECT user_id, amount FROM clicks;
END;
";

/// Where a secret stands.
struct Case {
    name: &'static str,
    options: String,
    variables: Vec<(&'static str, String)>,
}

/// Every place where the password of a user may stand.
fn places(server: &Server, user: &str, password: &str) -> Vec<Case> {
    let address = server.url().rsplit_once('@').map_or(server.url(), |(_, address)| address);
    let address = address.trim_start_matches("redis://");
    let case = |name, options: String, variables: &[(&'static str, &str)]| Case {
        name,
        options,
        variables: variables.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
    };
    let url = format!("redis://{user}:{password}@{address}");
    let named = format!("'url' = 'redis://{address}', 'username' = '{user}'");
    vec![
        case("the address", format!("'url' = '{url}'"), &[]),
        case("the address of a cluster", format!("'url' = '{url}', 'cluster' = 'true'"), &[]),
        case("an option", format!("{named}, 'password' = '{password}'"), &[]),
        case("a file", format!("{named}, 'password.file' = 'secret'"), &[]),
        case(
            "a variable in the text",
            format!("{named}, 'password' = '${{SECRET}}'"),
            &[("SECRET", password)],
        ),
        case("the environment", named.clone(), &[("REDIS_PASSWORD", password)]),
        case("a file of the environment", named, &[("REDIS_PASSWORD_FILE", "secret")]),
        case("the environment's address", "'cluster' = 'false'".into(), &[("REDIS_URL", &url)]),
    ]
}

/// A case's job.
fn job(case: &Case, input: &Streams, output: &str, read: &str) -> String {
    JOB.replace("{options}", &case.options)
        .replace("{read}", read)
        .replace("{input}", &input.pattern())
        .replace("{output}", output)
}

/// A server that wants a password, to be asked as the user.
fn guarded() -> (OwnServer, Server) {
    let own = OwnServer::forgetful();
    let mut connection = own.server().connect();
    let rules = ["on", &format!(">{PASSWORD}"), "~*", "&*", "+@all"];
    for user in [USER, "default"] {
        redis::cmd("ACL").arg("SETUSER").arg(user).arg(&rules).exec(&mut connection).unwrap();
    }
    let server = own.server().as_user(USER, PASSWORD);
    (own, server)
}

#[test]
fn a_password_that_lets_a_job_in_is_said_served_and_kept_nowhere() {
    let (_own, server) = guarded();
    let space = server.space();
    let input = Streams::new(&space, "clicks", 2);
    input.fill(4, 400);
    let cases = places(&server, USER, PASSWORD);
    for (n, case) in cases.iter().enumerate().filter(|(_, case)| !case.name.contains("cluster")) {
        let output = space.name(&format!("kept-{n}"));
        let sql = job(case, &input, &output, ["positions", "group"][n % 2]);
        with_job(case.name, &sql, &case.variables, (USER, PASSWORD), |job| {
            let served = job.served(|running| {
                running.until("results", || !space.keys(&format!("{output}:*")).is_empty());
            });
            assert_nowhere(&served, &guises(USER, PASSWORD), case.name);
            let checkpoints = std::fs::read_dir(job.folder.join("checkpoints")).unwrap();
            assert!(checkpoints.count() > 0, "{}: there are checkpoints", case.name);
        });
    }
}

#[test]
fn a_password_that_is_refused_or_never_asked_for_is_in_no_error() {
    let (_own, guarded) = guarded();
    let open = OwnServer::forgetful();
    let nowhere = Server::at("redis://127.0.0.1:1");
    let input = Streams::new(&guarded.space(), "clicks", 1);
    for (place, server) in
        [("refused", &guarded), ("never asked for", &open.server()), ("nowhere", &nowhere)]
    {
        for case in places(server, USER, CANARY) {
            // A server that is not there is waited for; once is enough.
            if place == "nowhere" && case.name != "the address" {
                continue;
            }
            let sql = job(&case, &input, "never", "positions");
            with_job(case.name, &sql, &case.variables, (USER, CANARY), |job| {
                let (code, said) = job.failed();
                let context = format!("{}, {place}", case.name);
                assert!(matches!(code, Some(1 | 78)), "{context}: {code:?} {said}");
                assert_nowhere(said.as_bytes(), &guises(USER, CANARY), &context);
            });
        }
    }
}

#[test]
fn an_address_that_is_none_is_not_repeated() {
    let wrong = [
        format!("redis://{USER}:{CANARY}@:x"),
        format!("http://{USER}:{CANARY}@localhost:1"),
        format!("redis://{USER}:{CANARY}@localhost:1/0?password={CANARY}"),
        format!("redis://localhost:1,rediss://{USER}:{CANARY}@localhost:2"),
        format!("{USER}:{CANARY}@localhost"),
    ];
    let server = OwnServer::forgetful().server();
    let input = Streams::new(&server.space(), "clicks", 1);
    for url in wrong {
        let case = Case {
            name: "a wrong address",
            options: format!("'url' = '{url}'"),
            variables: Vec::new(),
        };
        let sql = job(&case, &input, "never", "positions");
        with_job(case.name, &sql, &case.variables, (USER, CANARY), |job| {
            let (code, said) = job.failed();
            assert_eq!(code, Some(78), "{said}");
            assert_nowhere(said.as_bytes(), &guises(USER, CANARY), "run");
        });
    }
}
