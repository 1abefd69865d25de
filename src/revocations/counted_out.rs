//! A gateway that is cut off captures no more: its incarnations end, so that nobody waits for its barrier. What it has queued counts.

use super::error::RevocationError;
use super::link::Link;
use crate::plan::Secret;
use std::time::Duration;

/// Waits for an append in flight, which holds the row's share lock until its commit; one that comes later is refused.
const END: &str = "update cutover.producer set ended_at = clock_timestamp()
where plan = $1 and gateway = $2 and ended_at is null";

/// Ends what `gateway` has begun as a producer of `plan`. Started again, it begins anew.
///
/// # Errors
/// When control does not answer within `limit`; whether they ended is unknown, and it may be repeated.
pub async fn end_producer(control: &Secret, plan: &str, gateway: &str, limit: Duration) -> Result<(), RevocationError> {
    let link = Link::new(control.clone(), "control", limit);
    let (plan, gateway) = (plan.to_owned(), gateway.to_owned());
    let ended = link
        .run("end a producer that is cut off", |client| async move { client.execute(END, &[&plan, &gateway]).await });
    ended.await.map(drop)
}
