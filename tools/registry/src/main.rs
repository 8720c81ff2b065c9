//! `tidemill-registry --listen ADDR`: the registry as a process.

use std::process::ExitCode;

use tidemill_registry::Server;

const USAGE: &str = "usage: tidemill-registry [--listen HOST:PORT] [--authorization HEADER]

A small schema registry that speaks the REST API of Confluent's. What it knows is gone when it ends.

  --listen HOST:PORT       where to serve (default 127.0.0.1:8081)
  --authorization HEADER   answer only requests with this Authorization header";

fn main() -> ExitCode {
    let mut listen = "127.0.0.1:8081".to_owned();
    let mut server = Server::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.next()) {
            ("--help" | "-h", _) => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            ("--listen", Some(address)) => listen = address,
            ("--authorization", Some(header)) => server = server.authorization(header),
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    match server.start(&listen) {
        Ok(running) => {
            println!("listening on {}", running.url());
            running.join();
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("cannot serve on {listen}: {error}");
            ExitCode::FAILURE
        }
    }
}
