//! The formats of keys and values: where their options stand, for sources and sinks alike.

use std::collections::BTreeMap;

use tidemill_core::table::Options;
use tidemill_core::{Error, Result};
use tidemill_formats::Format;

const KEY: Part = Part { name: "key", own: &["key.format", "key.fields", "key.fields-prefix"] };

const VALUE: Part = Part { name: "value", own: &["value.format", "value.fields-include"] };

/// Formats that keep their schemas in a registry, under a subject.
const WITH_SUBJECTS: [&str; 2] = ["avro-confluent", "protobuf-confluent"];

/// A part of a record.
struct Part {
    name: &'static str,
    /// Options behind its prefix that are the connector's, not a format's.
    own: &'static [&'static str],
}

/// The format of values: `format`, or `value.format`. A sink names its topic: where no subject is
/// named, its schemas are registered as those of the topic's values.
///
/// # Errors
/// A configuration error that names the option.
pub(crate) fn value(options: &Options, topic: Option<&str>) -> Result<Format> {
    VALUE.check(options)?;
    match (options.get("format"), options.get("value.format")) {
        (Some(_), Some(_)) => {
            let message = "'format' and 'value.format' mean the same: remove one";
            Err(Error::option("value.format", message))
        }
        (Some(name), None) => VALUE.format(options, name, "format", topic),
        (None, Some(name)) => VALUE.format(options, name, "value.format", topic),
        (None, None) => {
            Err(Error::option("format", "option 'format' is required by this connector"))
        }
    }
}

/// The format of keys, called `name`. Otherwise as for [`value`].
pub(crate) fn key(options: &Options, name: &str, topic: Option<&str>) -> Result<Format> {
    KEY.check(options)?;
    KEY.format(options, name, "key.format", topic)
}

/// Refuses options of a key's format where keys have none.
pub(crate) fn check_no_key(options: &Options) -> Result<()> {
    KEY.check(options)
}

impl Part {
    /// The format called `name`, as `option` says. Its options stand behind the part's prefix, those
    /// of values also without.
    fn format(
        &self,
        options: &Options,
        name: &str,
        option: &str,
        topic: Option<&str>,
    ) -> Result<Format> {
        let prefix = format!("{}.", self.name);
        let mut all: BTreeMap<String, String> = BTreeMap::new();
        if let Some(topic) = topic.filter(|_| WITH_SUBJECTS.contains(&name)) {
            all.insert(format!("{name}.subject"), format!("{topic}-{}", self.name));
        }
        let plain = options.iter().filter(|_| self.name == VALUE.name);
        let prefixed =
            options.iter().filter_map(|(name, value)| Some((name.strip_prefix(&prefix)?, value)));
        all.extend(plain.chain(prefixed).map(|(name, value)| (name.into(), value.into())));
        let all = all.into_iter().collect();
        Format::parse(name, &all).map_err(|error| match error.wrong_option() {
            Some("format") => Error::option(option, error.message().to_owned()),
            Some(wrong) if options.get(wrong).is_none() => {
                Error::option(format!("{prefix}{wrong}"), error.message().to_owned())
            }
            _ => error,
        })
    }

    /// Refuses what stands behind the part's prefix and is nobody's.
    fn check(&self, options: &Options) -> Result<()> {
        let prefix = format!("{}.", self.name);
        let known = tidemill_formats::options();
        for (option, _) in options.iter() {
            let Some(name) = option.strip_prefix(&prefix) else { continue };
            if self.own.contains(&option) || known.iter().any(|known| known.matches(name)) {
                continue;
            }
            let own = self.own.iter().map(|own| (*own).to_owned());
            let close = own.chain(known.iter().map(|known| format!("{prefix}{}", known.name)));
            let close = close.min_by_key(|close| strsim::damerau_levenshtein(close, option));
            let close =
                close.map_or_else(String::new, |close| format!(": did you mean '{close}'?"));
            return Err(Error::option(
                option,
                format!("no format has an option '{option}'{close}"),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_registers_under_its_topic_and_an_option_wins() {
        let described = |more: &[(&str, &str)]| {
            let mut all = vec![("format", "avro-confluent"), ("avro-confluent.url", "http://r:1")];
            all.extend(more);
            format!("{:?}", value(&all.iter().copied().collect(), Some("orders")).unwrap())
        };
        assert!(described(&[]).contains("orders-value"));
        for option in ["avro-confluent.subject", "value.avro-confluent.subject"] {
            let text = described(&[(option, "mine")]);
            assert!(text.contains("mine") && !text.contains("orders-value"), "{text}");
        }
    }
}
