//! The proof of the example plan's mapping: what it makes otherwise than the engine's own migrations is declared, and nothing else passes.

use crate::harness::sandbox::Sandbox;
use serde_json::Value;

fn reasons(mapping: &Value) -> usize {
    mapping["declared_by"].as_object().map_or(0, serde_json::Map::len)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mapping_is_proved_against_the_engine_s_own_migrations() {
    let sandbox = Sandbox::up("proof", 2000, 50).await;
    let (code, early) = sandbox.run("run --through resolve-mapping").await;
    assert_eq!(code, 0, "{early}");
    let (code, proved) = sandbox.run("prove").await;
    assert_eq!((code, proved["outcome"].as_str()), (0, Some("done")), "{proved}");
    let mapping = &proved["mapping"];
    assert_eq!((mapping["undeclared"].as_u64(), reasons(mapping)), (Some(0), 5), "{proved}");
    assert!(mapping["rows"].as_u64() > mapping["declared"].as_u64(), "{proved}");

    // One reason taken out, and a mapping that loses a column's value: both are found, and named.
    let file = sandbox.dir.join("plan.yaml");
    let plan = std::fs::read_to_string(&file).expect("the plan");
    let declared = plan.split("    - table: hydra_jwk\n").nth(1).and_then(|rest| rest.split("    # ").next());
    let other = plan.replace(&format!("    - table: hydra_jwk\n{}", declared.expect("a declaration")), "");
    let other = other.replace(
        "hydra_oauth2_pkce: { set: { nid: $network } }",
        "hydra_oauth2_pkce: { set: { nid: $network, subject: \"'nobody'\" } }",
    );
    assert_ne!(other.len(), plan.len());
    std::fs::write(&file, other).expect("the plan is written");
    let (code, found) = sandbox.run("prove").await;
    assert_eq!((code, found["outcome"].as_str()), (3, Some("refused")), "{found}");
    let rows = found["mapping"]["differences"].as_array().expect("a list");
    let of = |table: &str, column: &str| {
        rows.iter().any(|row| {
            row["table"] == table && row["columns"].as_array().is_some_and(|names| names.contains(&column.into()))
        })
    };
    assert!(of("public.hydra_jwk", "pk") && of("public.hydra_oauth2_pkce", "subject"), "{found}");
    assert!(
        rows.iter().all(|row| row["table"] == "public.hydra_jwk" || row["table"] == "public.hydra_oauth2_pkce"),
        "{found}"
    );

    let left = "select count(*) from pg_database where datname like 'cutover_proof%'";
    assert_eq!(sandbox.ask("GREEN_URL", left).await, 0, "no copy is left");
}
