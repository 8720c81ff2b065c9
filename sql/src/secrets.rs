//! Keeps secrets out of errors: a job file may hold passwords, and an error shows a line of it.
//!
//! What is masked are the literals of options whose names say that they are secret, and in addresses
//! credentials (`//user:password@`) and parameters of such names (`?password=`). Invariants: the masked text has its characters where they were, so
//! that carets point right; a file that cannot be parsed is masked too, for then its lines are shown.

/// What the name of an option contains whose value is secret.
const NAMES: [&str; 16] = [
    "password",
    "passphrase",
    "secret",
    "token",
    "jaas",
    "user-info",
    "credential",
    "key.pem",
    "oauthbearer.config",
    // What a WebSocket feed is opened with: tokens, cookies, keys, and messages that hold them.
    "header.",
    "subscribe",
    "authorization",
    "cookie",
    "api-key",
    "api_key",
    "apikey",
];

/// What stands in a message for a secret.
const MASK: &str = "***";

/// What is shorter is masked where it stands, but looked for in no message: it would be found anywhere.
const SOUGHT_MIN: usize = 4;

/// A job file without its secrets.
pub(crate) struct Masked {
    /// The file, with an asterisk for every character of a secret.
    pub text: String,
    /// The secrets, longest first.
    secrets: Vec<String>,
}

impl Masked {
    /// The secrets of a file, found without parsing it.
    pub fn new(text: &str) -> Self {
        let chars: Vec<char> = text.chars().collect();
        let literals = literals(&chars);
        let mut spans = Vec::new();
        for (number, literal) in literals.iter().enumerate() {
            let name = number.checked_sub(1).map(|before| &literals[before]);
            let named = name.is_some_and(|name| {
                is_secret(&chars[name.start..name.end]) && is_value(&chars[name.end..literal.start])
            });
            if named && is_reference(&chars[literal.clone()]) {
                continue;
            }
            if named {
                spans.push(literal.clone());
            } else {
                spans.extend(credentials(&chars, literal));
                spans.extend(parameters(&chars, literal));
            }
        }
        let secret = |span: &std::ops::Range<usize>| chars[span.clone()].iter().collect();
        let mut secrets: Vec<String> = spans.iter().map(secret).collect();
        secrets.retain(|secret| secret.len() >= SOUGHT_MIN);
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        let mut masked = chars;
        for at in spans.into_iter().flatten() {
            if !matches!(masked[at], '\n' | '\r') {
                masked[at] = '*';
            }
        }
        Self { text: masked.into_iter().collect(), secrets }
    }

    /// A message without the secrets.
    pub fn message(&self, message: String) -> String {
        let mask = |message: String, secret: &String| message.replace(secret, MASK);
        self.secrets.iter().fold(message, mask)
    }
}

/// What stands between single quotes, outside of comments; one that is not closed goes to the end.
fn literals(chars: &[char]) -> Vec<std::ops::Range<usize>> {
    let starts = |at: usize, with: [char; 2]| chars[at..].starts_with(&with);
    let end_of = |from: usize, end: &[char]| {
        let at = chars[from..].windows(end.len()).position(|window| window == end);
        at.map_or(chars.len(), |at| from + at + end.len())
    };
    let (mut found, mut at) = (Vec::new(), 0);
    while at < chars.len() {
        if starts(at, ['-', '-']) {
            at = end_of(at, &['\n']);
        } else if starts(at, ['/', '*']) {
            at = end_of(at + 2, &['*', '/']);
        } else if chars[at] == '\'' {
            let start = at + 1;
            at = start;
            while at < chars.len() && (chars[at] != '\'' || starts(at, ['\'', '\''])) {
                at += if chars[at] == '\'' { 2 } else { 1 };
            }
            found.push(start..at.min(chars.len()));
            at += 1;
        } else {
            at += 1;
        }
    }
    found
}

fn is_secret(name: &[char]) -> bool {
    let name = name.iter().collect::<String>().to_lowercase();
    NAMES.iter().any(|part| name.contains(part))
}

/// Whether a literal is a variable and nothing else, `${NAME}`, which is worth showing.
fn is_reference(literal: &[char]) -> bool {
    let text: String = literal.iter().collect();
    text.strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'))
        .is_some_and(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}

/// Whether what stands between two literals makes the second the value of the first, if only by
/// mistake.
fn is_value(between: &[char]) -> bool {
    between.iter().all(|c| matches!(c, '\'' | '=' | ':') || c.is_whitespace())
}

/// Credentials in an address.
fn credentials(chars: &[char], literal: &std::ops::Range<usize>) -> Option<std::ops::Range<usize>> {
    let text = &chars[literal.clone()];
    let at = text.iter().rposition(|c| *c == '@')?;
    // An address may lack its scheme, if only by mistake.
    let start = match text[..at].windows(2).position(|window| window == ['/', '/']) {
        Some(slashes) => slashes + 2,
        None => text[..at].contains(&':').then_some(0)?,
    };
    Some(literal.start + start..literal.start + at)
}

/// Values behind an address whose names say that they are secret.
fn parameters(chars: &[char], literal: &std::ops::Range<usize>) -> Vec<std::ops::Range<usize>> {
    let text = &chars[literal.clone()];
    let Some(query) = text.iter().position(|c| *c == '?') else { return Vec::new() };
    let mut start = literal.start + query + 1;
    let mut values = Vec::new();
    for pair in text[query + 1..].split(|c| *c == '&') {
        let name = pair.iter().position(|c| *c == '=').filter(|equals| is_secret(&pair[..*equals]));
        values.extend(name.map(|equals| start + equals + 1..start + pair.len()));
        start += pair.len() + 1;
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_masked(text: &str, expected: &str) {
        let masked = Masked::new(text);
        assert_eq!(masked.text, expected);
        assert_eq!(masked.text.chars().count(), text.chars().count());
    }

    #[test]
    fn values_of_secret_options_are_masked_and_nothing_else() {
        assert_masked(
            "'sasl.password' = 'ab''c', 'topic' = 'x'",
            "'sasl.password' = '*****', 'topic' = 'x'",
        );
        assert_masked(
            "-- it's\n'a.Token'='t' /* ' */ , 'b' = 'c'",
            "-- it's\n'a.Token'='*' /* ' */ , 'b' = 'c'",
        );
        assert_masked("'url' = 'http://me:pw@host/p'", "'url' = 'http://*****@host/p'");
        assert_masked(
            "'url' = 'r://h/0?a=1&password=p&b=2&apiKey=k'",
            "'url' = 'r://h/0?a=1&password=*&b=2&apiKey=*'",
        );
        assert_masked(
            "'header.X-Api-Key' = 'k', 'subscribe' = '{\"key\": \"k\"}', 'format' = 'json'",
            "'header.X-Api-Key' = '*', 'subscribe' = '************', 'format' = 'json'",
        );
        assert_masked("'url' = 'me:pw@host'", "'url' = '*****@host'");
        assert_masked("'to' = 'me@host'", "'to' = 'me@host'");
        assert_masked("'a.token' = '${A_1}'", "'a.token' = '${A_1}'");
        assert_masked("'a.token' = '${A:-b}'", "'a.token' = '*******'");
        assert_masked("SELECT 'password', 'shown'", "SELECT 'password', 'shown'");
    }

    #[test]
    fn a_file_with_a_mistake_is_masked_too() {
        assert_masked("'x.password' 'pw' 'a'", "'x.password' '**' 'a'");
        assert_masked("'x.password' = 'p\nq", "'x.password' = '*\n*");
    }

    #[test]
    fn messages_name_no_secret() {
        let masked = Masked::new("'x.secret' = 'abcd', 'y.secret' = 'abcde', 'z.secret' = 'n'");
        let found = |text: &str| masked.message(format!("found '{text}', not '1'"));
        assert_eq!(found("abcd"), "found '***', not '1'");
        assert_eq!(found("abcde"), found("abcd"));
    }
}
