//! The ways by which a revocation takes effect on one side, and is seen to have: the engine's tables, and the plan's own statements.

use super::shape::Shape;
use super::sinks::SqlSink;
use crate::plan::{Replay, Side};
use tokio_postgres::GenericClient;

/// What there is on one side.
#[derive(Debug, Clone)]
pub struct Ways {
    shape: Shape,
    sql: SqlSink,
}

impl Ways {
    /// Those of `side`, to which `client` is connected; `replay` is the plan's word.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn of(
        client: &impl GenericClient,
        side: Side,
        replay: Option<&Replay>,
    ) -> Result<Self, tokio_postgres::Error> {
        let sql = replay.map(|replay| SqlSink::new(replay, side)).unwrap_or_default();
        Ok(Self { shape: Shape::detect(client).await?, sql })
    }

    /// The engine's tables.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The plan's statements.
    #[must_use]
    pub fn sql(&self) -> &SqlSink {
        &self.sql
    }
}

/// The engine's tables alone.
impl From<Shape> for Ways {
    fn from(shape: Shape) -> Self {
        Self { shape, sql: SqlSink::default() }
    }
}
