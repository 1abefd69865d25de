//! A subscription on a side: what it applies fires no statement trigger, so it would write past a seal. One that runs is refused, one that is
//! enabled is named right before the hold, and one that is disabled harms nobody.

use super::{errors, plan_of, tells};
use crate::harness::{Pair, eventually};
use cutover::database::fence::lock_holders;
use cutover::database::preflight::check;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);
const RUNS: &str = "blue: subscription incoming is running";

#[tokio::test]
async fn preflight_refuses_a_running_subscription_and_none_that_is_disabled() {
    let pair = Pair::separate().await;
    pair.blue.execute("create table one (id int primary key)").await;
    let plan = plan_of(&pair.control.url(), &pair.blue.url(), &pair.green.url(), "");
    let blue = pair.blue.client().await;
    let is_told = async || errors(&check(&plan, None, None).await).iter().any(|error| error == RUNS);
    assert!(!is_told().await);

    // Some other server; that anything comes from there is not needed.
    pair.control.execute("create publication elsewhere").await;
    let from = pair.control.url();
    let subscribe = format!(
        "create subscription incoming connection '{}' publication elsewhere with (copy_data = false)",
        from.expose()
    );
    pair.blue.execute(&subscribe).await;
    eventually(SOON, "it is refused", async || is_told().await.then_some(())).await;
    tells(&check(&plan, None, None).await, "blue", "subscription incoming is running");
    let holders = lock_holders(&blue).await.expect("blue answers");
    assert_eq!(holders, ["subscription incoming, whose rows pass statement triggers"]);

    pair.blue.execute("alter subscription incoming disable").await;
    assert_eq!(lock_holders(&blue).await.expect("blue answers"), Vec::<String>::new());
    eventually(SOON, "it has ended", async || (!is_told().await).then_some(())).await;
}
