//! Every mistake is told, with its place: one change of a whole plan a case.

use super::{anything, tempdir, whole};
use cutover::plan::{self, Problem};
use std::path::Path;

fn problems_of(text: &str) -> Vec<Problem> {
    plan::parse(text, Path::new("."), &anything).err().unwrap_or_default()
}

/// `LINE:COLUMN path: message` of each.
fn told(text: &str) -> Vec<String> {
    problems_of(text).iter().map(|p| format!("{}:{} {}: {}", p.line, p.column, p.path, p.message)).collect()
}

/// One change of the whole plan, and every problem that follows from it.
type Case = (&'static str, &'static str, &'static [&'static str]);

const CASES: &[Case] = &[
    ("version: 1", "version: 2", &["1:10 version: `version` must be `1`, not the number 2"]),
    ("version: 1\n", "", &["1:1 version: `version` is missing"]),
    ("name: whole", "name: \"\"", &["2:7 name: `name` is empty"]),
    ("name: whole", "name: Whole Plan", &["2:7 name: `name` is not a name"]),
    ("name: whole", "name: 7", &["2:7 name: `name` must be text, not the number 7"]),
    ("name: whole", "nmae: whole", &["1:1 name: `name` is missing", "2:1 nmae: a plan has no key `nmae`"]),
    ("${CONTROL_URL}", "${BLUE_URL}", &["3:10 control: the control database is blue"]),
    ("${CONTROL_URL}", "${CONTROL", &["3:10 control: `${` is no reference"]),
    (
        "${CONTROL_URL}",
        "${UNSET_A}${UNSET_B}",
        &["3:10 control: the variable UNSET_A is not set", "3:20 control: the variable UNSET_B is not set"],
    ),
    ("${CONTROL_URL}", "mysql://x", &["3:10 control: `control` is not the URL of a PostgreSQL database"]),
    ("${CONTROL_URL}", "postgres://me:hunter2@host/db", &["3:10 control: `control` holds a password"]),
    ("\"${GREEN_URL}\"", "\"${BLUE_URL}\"", &["6:17 databases.green.url: blue and green are the same database"]),
    (
        "  green: { url: \"${GREEN_URL}\", role: hydra }\n",
        "",
        &[
            "20:5 migrate[0].command: a command in a plan in place",
            "21:1 own: `own` in a plan in place",
            "22:1 drop: `drop` in a plan in place",
            "23:1 values: `values` in a plan in place",
            "25:1 carry: `carry` in a plan in place",
            "37:1 reverse: `reverse` in a plan in place",
            "40:1 revocations: `revocations` in a plan in place",
            "54:1 probes: `probes` in a plan in place",
        ],
    ),
    (
        ", role: hydra }\n  green",
        ", role: login }\n  green",
        &["5:37 databases.blue.role: `databases.blue.role` is also the login of its URL"],
    ),
    ("hold: 2s", "hold: 500ms", &["11:14 window.write_gap: `window.write_gap` is longer than `window.hold`"]),
    ("hold: 2s", "hold: fast", &["10:9 window.hold: `window.hold` is not a length of time"]),
    ("hold: 2s", "hold: [2s]", &["10:3 window.hold: `window.hold` must be text, not a list"]),
    ("hold: 2s", "hold: 0s", &["10:9 window.hold: `window.hold` is not a length of time"]),
    ("hold: 2s", "holds: 2s", &["10:3 window.holds: `window` has no key `holds`"]),
    ("hold: 2s", "hold: 2s\n  hold: 3s", &["11:3 window.hold: `window.hold` is given twice"]),
    (
        "closes: 2026-12-02T06",
        "closes: 2026-12-02T01",
        &["9:11 window.closes: `window.closes` is not after `window.opens`"],
    ),
    (
        "closes: 2026-12-02T06:00:00Z",
        "closes: tomorrow",
        &["9:11 window.closes: `window.closes` is not a point in time"],
    ),
    ("wal_keep: 10GB", "wal_keep: 10", &["12:13 window.wal_keep: `window.wal_keep` must be text, not the number 10"]),
    ("workers: 4", "workers: many", &["13:33 copy.workers: `copy.workers` cannot be `many`"]),
    ("rate: 90MB", "rate: fast", &["13:54 copy.throttle.rate: `copy.throttle.rate` is not a size"]),
    ("workers: 4", "workers: 0", &["13:33 copy.workers: `copy.workers` must be at least 1"]),
    (
        "method: carry",
        "method: physical",
        &["13:17 copy.method: `copy.method` must be `carry` or `logical`, not `physical`"],
    ),
    ("    cap: { rows: 500, percent: 1.5 }\n", "", &["15:5 cleanup[0].cap: `cleanup[0].cap` is missing"]),
    ("percent: 1.5", "percent: 100", &["18:32 cleanup[0].cap.percent: `cleanup[0].cap.percent` is no cap"]),
    ("rows: 500", "rows: -1", &["18:18 cleanup[0].cap.rows: `cleanup[0].cap.rows` must be at least 0"]),
    (
        "where: expires < '2020-01-01'",
        "where: (true)",
        &["17:12 cleanup[0].where: `cleanup[0].where` is true for every row"],
    ),
    (
        "where: expires < '2020-01-01'",
        "where: expires < now()",
        &["17:22 cleanup[0].where: `cleanup[0].where` calls now(), whose answer changes without a change of the row"],
    ),
    (
        "where: expires < '2020-01-01'",
        "where: client not in (select id from client)",
        &["17:12 cleanup[0].where: `cleanup[0].where` reads public.client"],
    ),
    (
        "where: expires < '2020-01-01'",
        "where: expires < '2020",
        &["17:22 cleanup[0].where: `cleanup[0].where` holds a quote that never ends"],
    ),
    ("table: access", "table: networks", &["16:12 cleanup[0].table: public.networks is one of green's own tables"]),
    ("- command: { run", "- comand: { run", &["21:5 migrate[0].comand: `migrate[0]` has no key `comand`"]),
    (
        "own: [networks]",
        "own: [networks, access]",
        &[
            "16:12 cleanup[0].table: public.access is one of green's own tables",
            "27:3 carry.access: public.access is listed twice: here and in `own[1]`",
            "39:3 reverse.access: `access` is never carried, so it has no way back",
        ],
    ),
    ("own: [networks]", "own: networks", &["22:6 own: `own` must be a list, not `networks`"]),
    (
        "drop: [login_request]",
        "drop: [login_request, networks]",
        &["23:23 drop[1]: public.networks is listed twice: here and in `own[0]`"],
    ),
    (
        "drop: [login_request]",
        "drop: [hydra_oauth2_jti_blacklist, a b]",
        &[
            "23:8 drop[0]: `hydra_oauth2_jti_blacklist` cannot be left behind on blue",
            "23:36 drop[1]: \"a b\" is not the name of a table",
        ],
    ),
    (
        "network: select id",
        "network: delete from x; select id",
        &[
            "25:12 values.network: `values.network` is not a select",
            "25:25 values.network: `values.network` holds more than one statement",
        ],
    ),
    (
        "$network",
        "$netwrk",
        &["28:18 carry.access.set.nid: `carry.access.set.nid` uses `$netwrk`, which is not in `values`"],
    ),
    (
        "$network",
        "gen_random_uuid()",
        &[
            "28:18 carry.access.set.nid: `carry.access.set.nid` calls gen_random_uuid(), whose answer changes without a change of the row",
        ],
    ),
    ("$network", "${NETWORK}", &["28:17 carry.access.set.nid: `carry.access.set.nid` cannot hold a reference"]),
    ("$network", "$1", &["28:18 carry.access.set.nid: `carry.access.set.nid` holds a parameter"]),
    ("    key: [login]\n", "", &["30:5 carry.flow.from: `carry.flow` has `from` but no `key`"]),
    (
        "    from: |\n      select r.login, h.state\n      from request r\n      join handled h on h.login = r.login\n",
        "",
        &["31:5 carry.flow.touched_by: `carry.flow` has `touched_by` but no `from`"],
    ),
    (
        "    from: |\n      select r.login, h.state\n      from request r\n      join handled h on h.login = r.login\n",
        "    from: sql/nowhere.sql\n",
        &["31:11 carry.flow.from: cannot read `sql/nowhere.sql`: there is no such file"],
    ),
    (
        "      handled: { key: login, back: [login] }\n",
        "",
        &["32:7 carry.flow.from: `carry.flow.from` reads public.handled, which is not in `touched_by`"],
    ),
    (
        "request: { key: login, back: [login] }",
        "request: { key: login }",
        &["36:7 carry.flow.touched_by.request.back: `carry.flow.touched_by.request.back` is missing"],
    ),
    (
        "request: { key: login, back: [login] }",
        "request: { key: login, back: [] }",
        &["36:30 carry.flow.touched_by.request.back: `carry.flow.touched_by.request.back` is empty"],
    ),
    (
        "h.state\n",
        "current_timestamp\n",
        &[
            "32:23 carry.flow.from: `carry.flow.from` uses current_timestamp, whose answer changes without a change of the row",
        ],
    ),
    ("flow: lose", "oauth2_code: lose", &["40:16 reverse.oauth2_code: `oauth2_code` cannot be lost on the way back"]),
    ("flow: lose", "flow: loose", &["40:9 reverse.flow: `reverse.flow` cannot be `loose`"]),
    (
        "access: revocations",
        "access: { carry: { set: { nid: now() }, key: [a, a] } }",
        &[
            "39:34 reverse.access.carry.set.nid: `reverse.access.carry.set.nid` calls now(), whose answer changes without a change of the row",
            "39:52 reverse.access.carry.key[1]: `reverse.access.carry.key` names `a` twice",
        ],
    ),
    (
        "access: revocations",
        "access: { carry: { sets: {} } }",
        &["39:22 reverse.access.carry.sets: `reverse.access.carry` has no key `sets`"],
    ),
    (
        "access: revocations",
        "access: { carry: { set: { a: (select b from c) } } }",
        &["39:32 reverse.access.carry.set.a: `reverse.access.carry.set.a` reads public.c"],
    ),
    (
        "access: revocations",
        "access: { lose: {} }",
        &[
            "39:3 reverse.access.carry: `reverse.access.carry` is missing",
            "39:13 reverse.access.lose: `reverse.access` has no key `lose`",
        ],
    ),
    ("flow: lose", "flow: carry", &["40:9 reverse.flow: `flow` is mapped with `from`, so it cannot be carried back"]),
    (
        "wal_keep: 10GB",
        "unexplained: { rows: 5, percent: 101 }",
        &["12:36 window.unexplained.percent: `window.unexplained.percent` is no cap"],
    ),
    (
        "wal_keep: 10GB",
        "unexplained: { rows: 5 }",
        &["12:3 window.unexplained.percent: `window.unexplained.percent` is missing"],
    ),
    (
        "queue: { postgres: {} }",
        "queue: { rabbitmq: {} }",
        &["42:12 revocations.queue.rabbitmq: `revocations.queue` has no key `rabbitmq`"],
    ),
    (
        "queue: { postgres: {} }",
        "queue: { cloudflare: { account: a, queue: q, dead_letter_queue: q, token: abc, api: \"http://queues.test\" } }",
        &[
            "42:67 revocations.queue.cloudflare.dead_letter_queue: `revocations.queue.cloudflare.dead_letter_queue` is the queue itself",
            "42:77 revocations.queue.cloudflare.token: `revocations.queue.cloudflare.token` is a secret that stands in the plan",
            "42:87 revocations.queue.cloudflare.api: `revocations.queue.cloudflare.api` is plain http to another machine",
        ],
    ),
    (
        "queue: { postgres: {} }",
        "queue: { cloudflare: { account: a/b, queue: q, token: \"${BLUE_URL}\" } }",
        &[
            "42:12 revocations.queue.cloudflare.dead_letter_queue: `revocations.queue.cloudflare.dead_letter_queue` is missing",
            "42:35 revocations.queue.cloudflare.account: `revocations.queue.cloudflare.account` is no id",
        ],
    ),
    (
        "queue: { postgres: {} }",
        "queue: { nats: { url: \"http://user:word@queue.test\", stream: a.b } }",
        &[
            "42:25 revocations.queue.nats.url: `revocations.queue.nats.url` holds a password that stands in the plan",
            "42:25 revocations.queue.nats.url: `revocations.queue.nats.url` is not the URL of a NATS server",
            "42:64 revocations.queue.nats.stream: `revocations.queue.nats.stream` is no id",
        ],
    ),
    (
        "revocations:\n  queue: { postgres: {} }\n  replay: { hydra: {} }\n",
        "",
        &["41:1 systems: there are `systems` but no `revocations`"],
    ),
    (
        "    gateway: { control: \"${GATEWAY_CONTROL}\" }\n",
        "    participant: { url: \"http://engine.test\" }\n",
        &["45:5 systems[0]: the first system is not behind a gateway"],
    ),
    (
        "    participant: { url: \"${DASHBOARD_CUTOVER}\" }\n",
        "",
        &[
            "48:5 systems[1]: `systems[1]` must have exactly one of `gateway`, `participant`, `command`, `haproxy` and `nginx`",
        ],
    ),
    (
        "name: dashboard",
        "name: engine",
        &["48:11 systems[1].name: two systems are named `engine`: the first is `systems[0]`"],
    ),
    (
        "\"${DASHBOARD_CUTOVER}\"",
        "\"${GATEWAY_CONTROL}\"",
        &["48:5 systems[1]: `dashboard` and `engine` have the same address"],
    ),
    (
        "\"${DASHBOARD_CUTOVER}\"",
        "http://me:pw@dash.test",
        &["49:25 systems[1].participant.url: `systems[1].participant.url` holds credentials"],
    ),
    (
        "http://127.0.0.1:4446",
        "http://127.0.0.1:4445",
        &["51:87 gateway.listen.control: `gateway.listen.control` is the same address as `gateway.listen.admin`"],
    ),
    (
        "doors: hydra",
        "doors: hydra\n  held_requests: 0",
        &["55:18 gateway.held_requests: `gateway.held_requests` must be at least 1"],
    ),
    (
        "doors: hydra",
        "doors: hydra\n  refresh: { coalesce: { ttl: 31s } }",
        &["55:31 gateway.refresh.coalesce.ttl: answers to refreshes are kept from 1s to 30s"],
    ),
    (
        "doors: hydra",
        "doors: hydra\n  refresh: { coalesce: { ttl: 2s } }",
        &["55:31 gateway.refresh.coalesce.ttl: answers to refreshes are not kept as long as `window.hold` lasts"],
    ),
    (
        "doors: hydra",
        "doors: hydra\n  refresh: { engine_grace: 301s }",
        &["55:28 gateway.refresh.engine_grace: `gateway.refresh.engine_grace` is longer than 5 minutes"],
    ),
    (
        "doors: hydra",
        "doors: hydra\n  refresh: { engine_grace: 0s }",
        &["55:28 gateway.refresh.engine_grace: `gateway.refresh.engine_grace` is not a length of time"],
    ),
    (
        "doors: hydra",
        "doors: hydra\n  refresh: { coalesce: {}, engine_grace: 60s }",
        &["55:3 gateway.refresh: `gateway.refresh` must have exactly one of the keys `coalesce`, `engine_grace`"],
    ),
    (
        "doors: hydra\n",
        "doors: hydra\nsoak: { failed: 101, slower: 0.5, over: 2h, when_worse: retry }\nisolate_green: { run: [] }\n",
        &[
            "55:17 soak.failed: `soak.failed` is no share",
            "55:30 soak.slower: `soak.slower` is less than 1",
            "55:41 soak.over: `soak.over` is longer than an hour",
            "55:57 soak.when_worse: `soak.when_worse` must be `stay` or `return`, not `retry`",
            "56:18 isolate_green.run: `isolate_green.run` is empty",
        ],
    ),
    (
        "doors: hydra\n",
        "doors: hydra\nisolate_green: { run: [cut, \"http://me:pw@power.test\"] }\n",
        &["55:29 isolate_green.run[1]: `isolate_green.run[1]` becomes a URL with a password"],
    ),
    ("doors: hydra", "doors: *hydra", &["54:10 : this is not YAML: while parsing node, found unknown anchor"]),
    ("doors: hydra", "doors: hydra\n---\nversion: 1", &["55:1 : a plan is one YAML document"]),
    ("name: whole", "name: [whole", &["3:8 : this is not YAML: illegal placement of ':' indicator"]),
];

#[test]
fn every_mistake_is_told_with_its_place() {
    for (from, to, expected) in CASES {
        let text = whole().replacen(from, to, 1);
        assert_ne!(text, whole(), "{from:?} is in the plan");
        assert_eq!(told(&text), *expected, "{from:?} -> {to:?}");
    }
}

/// Names of tables that hold used-marks, secrets or keys: one of each kind.
const MARKS: &[&str] = &[
    "hydra_oauth2_code",
    "hydra_oauth2_pkce",
    "hydra_client",
    "hydra_jwk",
    "hydra_oauth2_trusted_jwt_bearer_issuer",
    "hydra_oauth2_jti_blacklist",
    "jti_used",
    "auth.jti_used",
    "Authorization_Code",
];

#[test]
fn what_holds_marks_secrets_or_keys_is_neither_left_behind_nor_lost() {
    for name in MARKS {
        for (list, first, what) in [
            ("drop", "login_request", "left behind on blue"),
            ("own", "networks", "left behind on blue"),
            ("reverse", "flow: lose", "lost on the way back"),
        ] {
            let (from, to) = match list {
                "reverse" => (first.to_owned(), format!("{name}: lose")),
                _ => (format!("{list}: [{first}]"), format!("{list}: [{first}, {name}]")),
            };
            let text = whole().replacen(&from, &to, 1);
            let messages: Vec<String> = problems_of(&text).into_iter().map(|problem| problem.message).collect();
            assert_eq!(messages, [format!("`{name}` cannot be {what}")], "{to}");
        }
    }
}

/// What a plan of method `logical` cannot have besides; each is right with `carry`.
const LOGICAL: &[Case] = &[
    ("table: access", "table: access", &[]),
    (
        "    table: access",
        "    table: flow",
        &["16:12 cleanup[0].table: public.flow is mapped with `from`, and `copy.method` is `logical`"],
    ),
    (
        "expires < '2020-01-01'",
        "nid = $network",
        &["17:12 cleanup[0].where: `cleanup[0].where` needs one of `values`, and `copy.method` is `logical`"],
    ),
    (
        "drop: [login_request]",
        "drop: [handled]",
        &["37:7 carry.flow.touched_by.handled: the mapping reads public.handled, which is in `drop` or `own`"],
    ),
    (
        "DSN: \"${GREEN_DSN}\"",
        "DSN: \"postgres://hydra@green/db\"",
        &[
            "21:76 migrate[0].command.env.DSN: `migrate[0].command.env.DSN` logs in as hydra, and `copy.method` is `logical`",
        ],
    ),
];

#[test]
fn a_logical_plan_is_told_what_it_cannot_have() {
    for (from, to, expected) in LOGICAL {
        let carry = whole().replacen(from, to, 1);
        assert!(carry.contains(to), "{from}");
        assert_eq!(told(&carry), [""; 0], "{to} with `carry`");
        assert_eq!(told(&carry.replacen("method: carry", "method: logical", 1)), *expected, "{to}");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text =
        CASES.iter().filter(|(from, ..)| !from.contains('\n')).fold(whole().to_owned(), |text, (from, to, _)| {
            if to.contains(['[', '*']) || to.contains("---") { text } else { text.replacen(from, to, 1) }
        });
    let found = told(&text);
    for part in [
        "version",
        "control",
        "window.closes",
        "copy.workers",
        "cleanup[0].where",
        "carry.access",
        "reverse",
        "gateway.held_requests",
    ] {
        assert!(found.iter().any(|line| line.contains(part)), "{part} in {found:#?}");
    }
    assert!(found.len() > 20, "{found:#?}");
}

#[test]
fn a_problem_shows_the_line_a_caret_and_a_hint() {
    let problems = problems_of(&whole().replace("hold: 2s", "holds: 2s"));
    insta::assert_snapshot!(problems[0], @r"
    error: `window` has no key `holds`
      --> plan.yaml:10:3
       |
    10 |   holds: 2s
       |   ^^^^^
      hint: did you mean `hold`?
    ");
    let json = serde_json::json!({
        "event": "problem", "line": 10, "column": 3, "path": "window.holds",
        "message": "`window` has no key `holds`", "hint": "did you mean `hold`?",
    });
    assert_eq!(problems[0].to_json(), json);
}

#[test]
fn a_mistake_in_a_named_file_names_its_line() {
    let folder = tempdir();
    std::fs::write(
        folder.join("flow.sql"),
        "-- all flows\nselect login,\n  now()\nfrom request r, handled h\n;\n-- end\n",
    )
    .unwrap();
    let select =
        "from: |\n      select r.login, h.state\n      from request r\n      join handled h on h.login = r.login\n";
    let text = whole().replace(select, "from: flow.sql\n");
    let problems = plan::parse(&text, &folder, &anything).unwrap_err();
    let told: Vec<String> = problems.iter().map(|p| format!("{}:{} {}", p.line, p.column, p.message)).collect();
    assert_eq!(told, ["31:11 `flow.sql` line 3 calls now(), whose answer changes without a change of the row"]);
    std::fs::write(folder.join("flow.sql"), "select login from request r, handled h\n;\n-- end\n").unwrap();
    let plan = plan::parse(&text, &folder, &anything).unwrap();
    let flow = plan.carry.values().find_map(|table| table.from.as_ref()).unwrap();
    assert_eq!(flow.text, "select login from request r, handled h");
}
