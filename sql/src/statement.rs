//! The statements of a job file: split on `;`, and those that the parser of queries does not know
//! read by hand. A query stays a run of tokens until the tables before it are known.

use datafusion_sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan};

use crate::diagnostic::{Fallible, Problem, Problems};
use crate::token::{Cursor, Name, is_word, span_of};
use crate::types::{self, SqlType};

/// A statement, with names and queries where they stand.
#[derive(Debug)]
pub(crate) enum Statement {
    CreateTable(TableDeclaration),
    CreateView {
        name: Name,
        columns: Vec<Name>,
        if_not_exists: bool,
        query: Vec<TokenWithSpan>,
    },
    Insert {
        table: Name,
        columns: Vec<Name>,
        query: Vec<TokenWithSpan>,
    },
    Set {
        key: Name,
        value: Name,
    },
    /// A declaration that is wrong and was reported.
    Broken {
        name: Name,
    },
}

/// `CREATE TABLE` as written.
#[derive(Debug)]
pub(crate) struct TableDeclaration {
    pub name: Name,
    pub if_not_exists: bool,
    pub columns: Vec<ColumnDeclaration>,
    pub watermark: Option<(Name, Vec<TokenWithSpan>)>,
    pub primary_key: Vec<Name>,
    pub partitioned_by: Vec<Name>,
    pub options: Vec<(Name, Name)>,
    pub span: Span,
}

/// A column as written.
#[derive(Debug)]
pub(crate) struct ColumnDeclaration {
    pub name: Name,
    pub kind: ColumnKind,
}

/// Where a column's values come from.
#[derive(Debug)]
pub(crate) enum ColumnKind {
    Physical(SqlType),
    Metadata { sql_type: SqlType, key: String, is_virtual: bool },
    Computed(Vec<TokenWithSpan>),
}

/// The statements of a file; what is wrong with the others goes to `problems`.
pub(crate) fn parse(tokens: &[TokenWithSpan], problems: &mut Problems) -> Vec<Statement> {
    let mut statements = Vec::new();
    let mut open_set: Option<Span> = None;
    for piece in tokens.split(|token| token.token == Token::SemiColon) {
        let mut cursor = Cursor::new(piece);
        let start = cursor.span();
        if cursor.accept_words(&["EXECUTE", "STATEMENT", "SET", "BEGIN"])
            || cursor.accept_words(&["BEGIN", "STATEMENT", "SET"])
        {
            if open_set.replace(start).is_some() {
                problems.add(Problem::new(start, "a statement set cannot stand inside another"));
            }
        } else if open_set.is_some() && cursor.accept_words(&["END"]) {
            open_set = None;
        }
        if cursor.is_at_end() {
            continue;
        }
        let body = cursor.rest();
        let span = body[0].span;
        match problems.take(parse_one(body)) {
            Some(statement)
                if open_set.is_some() && !matches!(statement, Statement::Insert { .. }) =>
            {
                problems.add(
                    Problem::new(span, "a statement set holds INSERT statements only")
                        .help("move this statement in front of it"),
                );
            }
            Some(statement) => statements.push(statement),
            None => statements.extend(declared(body).map(|name| Statement::Broken { name })),
        }
    }
    if let Some(span) = open_set {
        problems.add(
            Problem::new(span, "this statement set is not closed").help("write END; behind it"),
        );
    }
    statements
}

/// The name that a wrong `CREATE TABLE` or `CREATE VIEW` declares.
fn declared(tokens: &[TokenWithSpan]) -> Option<Name> {
    let mut cursor = Cursor::new(tokens);
    let is_create = cursor.accept_words(&["CREATE"]);
    cursor.accept_words(&["TEMPORARY"]);
    if !is_create || !(cursor.accept_words(&["TABLE"]) || cursor.accept_words(&["VIEW"])) {
        return None;
    }
    cursor.accept_words(&["IF", "NOT", "EXISTS"]);
    cursor.name("a name").ok()
}

fn parse_one(tokens: &[TokenWithSpan]) -> Fallible<Statement> {
    let mut cursor = Cursor::new(tokens);
    if cursor.accept_words(&["SET"]) {
        return set(&mut cursor);
    }
    if cursor.accept_words(&["INSERT", "INTO"]) {
        return insert(&mut cursor);
    }
    if cursor.accept_words(&["EXECUTE", "INSERT", "INTO"]) {
        return insert(&mut cursor);
    }
    if cursor.accept_words(&["CREATE"]) {
        cursor.accept_words(&["TEMPORARY"]);
        if cursor.accept_words(&["TABLE"]) {
            return create_table(&mut cursor, span_of(tokens)).map(Statement::CreateTable);
        }
        if cursor.accept_words(&["VIEW"]) {
            return create_view(&mut cursor);
        }
        let what = cursor.peek().map(|token| token.to_string().to_uppercase()).unwrap_or_default();
        let problem = Problem::new(tokens[0].span, format!("CREATE {what} is not supported"));
        return Err(match what.as_str() {
            "FUNCTION" | "SYSTEM" => problem.help(
                "functions of your own are registered in Rust: Registry::with_udf, with_udaf",
            ),
            _ => problem.help("a job file creates tables and views; they need no catalog"),
        });
    }
    Err(unsupported(tokens))
}

fn unsupported(tokens: &[TokenWithSpan]) -> Problem {
    let first = &tokens[0];
    let word = first.token.to_string().to_uppercase();
    let problem = Problem::new(first.span, format!("a job file cannot hold {word}"));
    match word.as_str() {
        "SELECT" | "WITH" => Problem::new(first.span, "the result of this query goes nowhere")
            .help("write INSERT INTO <table> in front of it"),
        "INSERT" => Problem::new(first.span, "INSERT OVERWRITE is not supported")
            .help("a stream has no end at which to overwrite: write INSERT INTO"),
        "UPDATE" | "DELETE" | "MERGE" => {
            problem.help("a stream is read, not changed: filter or aggregate it, then INSERT INTO")
        }
        "END" => Problem::new(first.span, "END without a statement set")
            .help("a statement set starts with EXECUTE STATEMENT SET BEGIN"),
        _ => problem.suggest(&word, ["CREATE", "INSERT", "SET", "EXECUTE", "BEGIN"]),
    }
}

fn set(cursor: &mut Cursor<'_>) -> Fallible<Statement> {
    let key = cursor.string("a setting's name in quotes: SET 'key' = 'value'")?;
    cursor.expect(&Token::Eq)?;
    let value = cursor.string("the setting's value in quotes")?;
    end(cursor)?;
    Ok(Statement::Set { key, value })
}

fn insert(cursor: &mut Cursor<'_>) -> Fallible<Statement> {
    let table = cursor.name("the name of the table to insert into")?;
    if cursor.peek().is_some_and(|token| is_word(token, "PARTITION")) {
        return Err(Problem::new(cursor.span(), "INSERT INTO … PARTITION is not supported")
            .help("select the partition's value as a column"));
    }
    let is_column_list = cursor.peek() == Some(&Token::LParen)
        && !["SELECT", "WITH"]
            .iter()
            .any(|word| cursor.peek_ahead(1).is_some_and(|token| is_word(token, word)))
        && cursor.peek_ahead(1) != Some(&Token::LParen);
    let columns = if is_column_list { cursor.names("a column's name")? } else { Vec::new() };
    if cursor.peek().is_some_and(|token| is_word(token, "VALUES")) {
        return Err(Problem::new(cursor.span(), "INSERT INTO … VALUES is not supported")
            .help("a job reads a source: write INSERT INTO … SELECT … FROM <table>"));
    }
    let query = query(cursor)?;
    Ok(Statement::Insert { table, columns, query })
}

fn query(cursor: &mut Cursor<'_>) -> Fallible<Vec<TokenWithSpan>> {
    if cursor.is_at_end() {
        return Err(cursor.expected("SELECT"));
    }
    Ok(cursor.rest().to_vec())
}

fn create_view(cursor: &mut Cursor<'_>) -> Fallible<Statement> {
    let if_not_exists = cursor.accept_words(&["IF", "NOT", "EXISTS"]);
    let name = cursor.name("the view's name")?;
    let columns = if cursor.peek() == Some(&Token::LParen) {
        cursor.names("a column's name")?
    } else {
        Vec::new()
    };
    if cursor.accept_words(&["COMMENT"]) {
        cursor.string("a comment in quotes")?;
    }
    cursor.expect_words(&["AS"])?;
    Ok(Statement::CreateView { name, columns, if_not_exists, query: query(cursor)? })
}

fn create_table(cursor: &mut Cursor<'_>, span: Span) -> Fallible<TableDeclaration> {
    let if_not_exists = cursor.accept_words(&["IF", "NOT", "EXISTS"]);
    let name = cursor.name("the table's name")?;
    let mut table = TableDeclaration {
        name,
        if_not_exists,
        columns: Vec::new(),
        watermark: None,
        primary_key: Vec::new(),
        partitioned_by: Vec::new(),
        options: Vec::new(),
        span,
    };
    cursor.expect(&Token::LParen)?;
    loop {
        table_element(cursor, &mut table)?;
        if !cursor.accept(&Token::Comma) {
            break;
        }
    }
    if !cursor.accept(&Token::RParen) {
        return Err(cursor.expected("',' or ')' behind the column"));
    }
    if cursor.accept_words(&["COMMENT"]) {
        cursor.string("a comment in quotes")?;
    }
    if cursor.accept_words(&["PARTITIONED", "BY"]) {
        table.partitioned_by = cursor.names("a column's name")?;
    }
    if cursor.peek().is_some_and(|token| is_word(token, "LIKE") || is_word(token, "AS")) {
        return Err(Problem::new(cursor.span(), "CREATE TABLE … LIKE and … AS are not supported")
            .help("declare the columns"));
    }
    if !cursor.accept_words(&["WITH"]) {
        return Err(cursor.expected("WITH ('connector' = '…', …)"));
    }
    table.options = options(cursor)?;
    end(cursor)?;
    Ok(table)
}

fn table_element(cursor: &mut Cursor<'_>, table: &mut TableDeclaration) -> Fallible<()> {
    let start = cursor.span();
    if cursor.accept_words(&["WATERMARK", "FOR"]) {
        let column = cursor.name("the time column")?;
        cursor.expect_words(&["AS"])?;
        let expression = cursor.until(|token| *token == Token::Comma).to_vec();
        if expression.is_empty() {
            return Err(cursor.expected("an expression"));
        }
        if table.watermark.replace((column, expression)).is_some() {
            return Err(Problem::new(start, "a table has one watermark only"));
        }
        return Ok(());
    }
    if cursor.accept_words(&["CONSTRAINT"]) {
        cursor.name("the constraint's name")?;
    }
    if cursor.accept_words(&["PRIMARY", "KEY"]) {
        table.primary_key = cursor.names("a column's name")?;
        return not_enforced(cursor);
    }
    let column = column(cursor, table)?;
    if let Some(earlier) = table.columns.iter().find(|c| c.name.text == column.name.text) {
        let message = format!("column '{}' is declared twice", earlier.name.text);
        return Err(Problem::new(column.name.span, message));
    }
    table.columns.push(column);
    Ok(())
}

fn not_enforced(cursor: &mut Cursor<'_>) -> Fallible<()> {
    if cursor.accept_words(&["NOT", "ENFORCED"]) {
        return Ok(());
    }
    Err(cursor
        .expected("NOT ENFORCED")
        .help("a stream's keys are declared, not checked: write PRIMARY KEY (…) NOT ENFORCED"))
}

fn column(cursor: &mut Cursor<'_>, table: &mut TableDeclaration) -> Fallible<ColumnDeclaration> {
    let name = cursor.name("a column, WATERMARK FOR or PRIMARY KEY")?;
    if cursor.accept_words(&["AS"]) {
        let expression =
            cursor.until(|token| *token == Token::Comma || is_word(token, "COMMENT")).to_vec();
        if expression.is_empty() {
            return Err(cursor.expected("an expression"));
        }
        comment(cursor)?;
        return Ok(ColumnDeclaration { name, kind: ColumnKind::Computed(expression) });
    }
    let sql_type = types::parse(cursor)?;
    if cursor.accept_words(&["METADATA"]) {
        let key = if cursor.accept_words(&["FROM"]) {
            cursor.string("the metadata key in quotes")?.text
        } else {
            name.text.clone()
        };
        let is_virtual = cursor.accept_words(&["VIRTUAL"]);
        comment(cursor)?;
        let kind = ColumnKind::Metadata { sql_type, key, is_virtual };
        return Ok(ColumnDeclaration { name, kind });
    }
    if cursor.accept_words(&["PRIMARY", "KEY"]) {
        not_enforced(cursor)?;
        table.primary_key = vec![name.clone()];
    }
    comment(cursor)?;
    Ok(ColumnDeclaration { name, kind: ColumnKind::Physical(sql_type) })
}

fn comment(cursor: &mut Cursor<'_>) -> Fallible<()> {
    if cursor.accept_words(&["COMMENT"]) {
        cursor.string("a comment in quotes")?;
    }
    Ok(())
}

fn options(cursor: &mut Cursor<'_>) -> Fallible<Vec<(Name, Name)>> {
    let mut options: Vec<(Name, Name)> = Vec::new();
    cursor.expect(&Token::LParen)?;
    while !cursor.accept(&Token::RParen) {
        let key = cursor.string("an option's name in quotes")?;
        cursor.expect(&Token::Eq)?;
        let value = cursor.string("the option's value in quotes")?;
        if options.iter().any(|(other, _)| other.text == key.text) {
            return Err(Problem::new(key.span, format!("option '{}' is given twice", key.text)));
        }
        options.push((key, value));
        if !cursor.accept(&Token::Comma) && cursor.peek() != Some(&Token::RParen) {
            return Err(cursor.expected("',' or ')'"));
        }
    }
    Ok(options)
}

fn end(cursor: &Cursor<'_>) -> Fallible<()> {
    if cursor.is_at_end() { Ok(()) } else { Err(cursor.expected("';'")) }
}
