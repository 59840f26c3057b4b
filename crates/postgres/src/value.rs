//! Queries and their values.

use std::{
    error::Error,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

use bytes::BytesMut;
use deadpool_postgres::ClientWrapper;
use futures_util::future::maybe_done;
use tokio_postgres::{
    Row,
    types::{IsNull, ToSql, Type, to_sql_checked},
};

/// A value of a query. The client logs values by their `Debug` form, and these may be tokens.
#[derive(Clone)]
pub(crate) enum Value {
    Integer(i64),
    OptionalInteger(Option<i64>),
    Integers(Vec<i64>),
    Keys(Vec<Vec<u8>>),
    Bytes(Option<Vec<u8>>),
    Text(&'static str),
    Name(String),
}

impl Value {
    fn type_of(&self) -> Type {
        match self {
            Self::Integer(_) | Self::OptionalInteger(_) => Type::INT8,
            Self::Integers(_) => Type::INT8_ARRAY,
            Self::Keys(_) => Type::BYTEA_ARRAY,
            Self::Bytes(_) => Type::BYTEA,
            Self::Text(_) | Self::Name(_) => Type::TEXT,
        }
    }
}

/// Ids, names and tokens are bytes in the database: its texts cannot have a NUL, and compare by a locale.
impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Bytes(Some(text.as_bytes().to_vec()))
    }
}

impl From<&[u8; 32]> for Value {
    fn from(digest: &[u8; 32]) -> Self {
        Self::Bytes(Some(digest.to_vec()))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

/// The number, or the largest that the database can hold: a token may claim any end.
impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

impl ToSql for Value {
    fn to_sql(&self, of: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Integer(number) => number.to_sql(of, out),
            Self::OptionalInteger(number) => number.to_sql(of, out),
            Self::Integers(numbers) => numbers.to_sql(of, out),
            Self::Keys(keys) => keys.to_sql(of, out),
            Self::Bytes(bytes) => bytes.to_sql(of, out),
            Self::Text(text) => text.to_sql(of, out),
            Self::Name(name) => name.to_sql(of, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// A statement with its values.
#[derive(Clone)]
pub(crate) struct Query {
    sql: &'static str,
    values: Vec<Value>,
}

impl Query {
    pub(crate) fn new(sql: &'static str, values: impl Into<Vec<Value>>) -> Self {
        Self { sql, values: values.into() }
    }
}

/// Runs statements one after the other, without waiting for an answer in between.
///
/// A pooler gives each transaction a connection of its choice, so nothing can be prepared on one.
pub(crate) async fn run(
    client: &ClientWrapper,
    is_pooled: bool,
    queries: &[Query],
) -> Result<Vec<Vec<Row>>, tokio_postgres::Error> {
    type Parameter<'a> = &'a (dyn ToSql + Sync);
    if is_pooled {
        let typed = |query: &'_ Query| -> Vec<(Value, Type)> {
            query.values.iter().map(|value| (value.clone(), value.type_of())).collect()
        };
        let values: Vec<_> = queries.iter().map(typed).collect();
        let values: Vec<Vec<(Parameter<'_>, Type)>> = values
            .iter()
            .map(|values| values.iter().map(|(value, of)| (value as Parameter<'_>, of.clone())).collect())
            .collect();
        let answers = queries.iter().zip(&values).map(|(query, values)| client.query_typed(query.sql, values));
        return in_order(answers).await;
    }
    // All of them first, so that each of the statements is sent as soon as its future is polled, which happens in order.
    let mut statements = Vec::with_capacity(queries.len());
    for query in queries {
        let types: Vec<_> = query.values.iter().map(Value::type_of).collect();
        statements.push(client.prepare_typed_cached(query.sql, &types).await?);
    }
    let values: Vec<Vec<Parameter<'_>>> =
        queries.iter().map(|query| query.values.iter().map(|value| value as Parameter<'_>).collect()).collect();
    let answers = statements.iter().zip(&values).map(|(statement, values)| client.query(statement, values));
    in_order(answers).await
}

/// Sends all queries before it waits for the first answer. A query is sent when its future is polled first.
async fn in_order<T, E>(queries: impl Iterator<Item = impl Future<Output = Result<T, E>>>) -> Result<Vec<T>, E> {
    let mut queries: Vec<_> = queries.map(|query| maybe_done(Box::pin(query))).collect();
    poll_fn(|cx| {
        for query in &mut queries {
            let _ = Pin::new(query).poll(cx);
        }
        Poll::Ready(())
    })
    .await;
    let mut answers = Vec::with_capacity(queries.len());
    for mut query in queries {
        (&mut query).await;
        answers.extend(Pin::new(&mut query).take_output().transpose()?);
    }
    Ok(answers)
}
