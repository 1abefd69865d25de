//! Whether a lost token is explained by its chain.

use super::tables::{create, grant};
use crate::harness::Pair;
use cutover::revocations::{Shape, rotation};
use std::collections::BTreeSet;

#[tokio::test]
async fn a_chain_is_known_while_any_of_its_tokens_is_there_even_switched_off() {
    let pair = Pair::shared().await;
    create(&pair).await;
    pair.green.execute(&["r1", "r2", "r3", "r4"].map(|request| grant(request, request, "c", "s")).concat()).await;
    pair.green
        .execute(
            "delete from hydra_oauth2_access where request_id <> 'r4'; update hydra_oauth2_refresh set active = false where request_id = 'r2';
             delete from hydra_oauth2_refresh where request_id = 'r3'",
        )
        .await;
    let green = pair.green.client().await;
    let shape = Shape::detect(&green).await.expect("the catalog answers");
    let asked = ["r1", "r2", "r3", "never"].map(str::to_owned);
    let known = rotation::known_chains(&green, &shape, &asked).await.expect("green answers");
    assert_eq!(known, BTreeSet::from(["r1".to_owned(), "r2".to_owned()]));
    assert!(rotation::known_chains(&green, &shape, &[]).await.expect("nothing is asked").is_empty());
    let marks = ["hydra_oauth2_code", "hydra_oauth2_access", "hydra_oauth2_refresh"].map(rotation::holds_used_marks);
    assert_eq!(marks, [true, false, false]);
}
