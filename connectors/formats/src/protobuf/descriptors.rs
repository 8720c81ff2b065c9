//! Where a message's description comes from: `.proto` files, a descriptor set, or a registry's schema.
//!
//! `.proto` files are compiled in-process; nothing has to be installed and no code is generated.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use prost_reflect::{DescriptorPool, FileDescriptor, MessageDescriptor};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use tidemill_core::{Error, Result};

use crate::registry::Schema;

/// What a registry's schema is called among its imports.
const MAIN: &str = "schema.proto";

/// The files that `file` and its imports are. Imports are looked for in `import_paths`, or beside the
/// file where there are none.
///
/// # Errors
/// A configuration error that says where in which file.
pub(super) fn compile(file: &Path, import_paths: &[PathBuf]) -> Result<DescriptorPool> {
    let beside = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let beside = [beside.unwrap_or(Path::new(".")).to_owned()];
    let paths = if import_paths.is_empty() { &beside } else { import_paths };
    let mut compiler = protox::Compiler::new(paths).map_err(|error| uncompiled(file, &error))?;
    compiler.open_file(file).map_err(|error| uncompiled(file, &error))?;
    Ok(compiler.descriptor_pool())
}

fn uncompiled(file: &Path, error: &protox::Error) -> Error {
    // Its debug form has the place, where there is one.
    let (short, long) = (error.to_string(), format!("{error:?}"));
    let what = if long.contains(&short) { long } else { short };
    Error::option(
        "protobuf.file",
        format!("option 'protobuf.file': {} does not compile: {what}", file.display()),
    )
}

/// The files of a descriptor set (`protoc --include_imports --descriptor_set_out`).
///
/// # Errors
/// A configuration error.
pub(super) fn descriptor_set(path: &Path) -> Result<DescriptorPool> {
    const OPTION: &str = "protobuf.descriptor-set";
    let place = path.display();
    let bytes = std::fs::read(path).map_err(|error| {
        Error::option(OPTION, format!("option '{OPTION}': cannot read {place}")).caused_by(error)
    })?;
    DescriptorPool::decode(bytes.as_slice()).map_err(|error| {
        let message = format!(
            "option '{OPTION}': {place} is no descriptor set with its imports: write it with \
             protoc --include_imports --descriptor_set_out"
        );
        Error::option(OPTION, message).caused_by(error)
    })
}

/// A message by its full name.
///
/// # Errors
/// A configuration error that lists the messages there are.
pub(super) fn message(
    pool: &DescriptorPool,
    option: &str,
    name: &str,
) -> Result<MessageDescriptor> {
    let name = name.trim_start_matches('.');
    pool.get_message_by_name(name).ok_or_else(|| {
        let known: Vec<String> = pool
            .all_messages()
            .filter(|message| {
                !message.is_map_entry() && message.package_name() != "google.protobuf"
            })
            .map(|message| message.full_name().to_owned())
            .collect();
        let known = known.join(", ");
        let message = format!("option '{option}': there is no message '{name}'; there is {known}");
        Error::option(option, message)
    })
}

/// The file that a registry's schema is.
///
/// # Errors
/// The reason why it is none.
pub(super) fn of_schema(schema: &Schema) -> Result<FileDescriptor, String> {
    let mut texts: HashMap<String, String> =
        schema.imports.iter().map(|i| (i.name.clone(), i.text.clone())).collect();
    texts.insert(MAIN.to_owned(), schema.definition.text.clone());
    of_texts(texts)
        .map_err(|error| format!("schema {} of the registry does not compile: {error}", schema.id))
}

/// The file called `schema.proto` among files that are held in memory.
fn of_texts(texts: HashMap<String, String>) -> Result<FileDescriptor, String> {
    let mut files = ChainFileResolver::new();
    files.add(Texts(texts));
    files.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(files);
    compiler.open_file(MAIN).map_err(|error| error.to_string())?;
    let file = compiler.descriptor_pool().get_file_by_name(MAIN);
    file.ok_or_else(|| "it is lost".to_owned())
}

/// The file that a `.proto` text without imports of its own is.
///
/// # Errors
/// The reason why it is none.
pub(super) fn of_text(text: &str) -> Result<FileDescriptor, String> {
    of_texts(HashMap::from([(MAIN.to_owned(), text.to_owned())]))
}

struct Texts(HashMap<String, String>);

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.0.get(name) {
            Some(text) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// The message that message indexes lead to. Entries of maps are no messages of the schema.
///
/// # Errors
/// The reason why there is none.
pub(super) fn at_indexes(
    file: &FileDescriptor,
    indexes: &[usize],
) -> Result<MessageDescriptor, String> {
    let missing = || format!("message indexes {indexes:?} lead to no message of the schema");
    let (first, rest) = indexes.split_first().ok_or_else(missing)?;
    let mut message = file.messages().nth(*first).ok_or_else(missing)?;
    for index in rest {
        let mut nested = message.child_messages().filter(|message| !message.is_map_entry());
        let found = nested.nth(*index);
        drop(nested);
        message = found.ok_or_else(missing)?;
    }
    Ok(message)
}

/// The way to a message from its file: the inverse of [`at_indexes`].
pub(super) fn indexes_of(message: &MessageDescriptor) -> Vec<usize> {
    let mut indexes = Vec::new();
    let mut at = message.clone();
    loop {
        let parent = at.parent_message();
        let position = match &parent {
            Some(parent) => parent
                .child_messages()
                .filter(|message| !message.is_map_entry())
                .position(|message| message == at),
            None => at.parent_file().messages().position(|message| message == at),
        };
        indexes.extend(position);
        match parent {
            Some(parent) => at = parent,
            None => break,
        }
    }
    indexes.reverse();
    indexes
}
