//! One suite for every queue, run by name on all three: PostgreSQL, Cloudflare's API on a strict local server, and a real JetStream server.

mod bench;
mod capture;
mod cloudflare;
mod cloudflare_server;
mod delivery;
mod moving;
mod nats;
mod postgres;
mod servers;
mod taking;

use bench::{Bench, Kind};

/// Every property on one backend.
macro_rules! suite {
    ($backend:ident, $kind:expr; $($file:ident: $($property:ident),+;)+) => {
        mod $backend {
            use super::*;
            $($(
                #[tokio::test]
                async fn $property() {
                    $file::$property(&Bench::new($kind).await).await;
                }
            )+)+
        }
    };
}

macro_rules! on {
    ($($backend:ident $kind:expr),+) => {
        $(suite! { $backend, $kind;
            delivery: at_least_once_between_several_producers_and_consumers, what_is_not_acknowledged_comes_again_and_not_before,
                what_is_given_back_comes_after_its_delay, what_comes_too_often_is_a_dead_letter_and_never_lost,
                a_full_queue_refuses_and_takes_again;
            taking: duplicates_and_reordering_change_nothing, poison_is_kept_with_its_reason_and_keeps_nobody_else,
                a_crash_between_effect_and_acknowledgement_has_one_effect, two_consumers_at_once_take_each_message_once,
                dead_letters_are_taken_all_the_same, a_strange_gateway_cannot_speak_for_another;
            capture: drained_means_every_barrier_and_every_number, clocks_of_producers_are_compared_with_nobodys,
                an_unknown_publication_is_void_and_blocks_nothing, a_queue_that_is_down_refuses_in_time;
        })+
    };
}

on! { on_postgres Kind::Postgres, on_cloudflare Kind::Cloudflare, on_nats Kind::Nats }
