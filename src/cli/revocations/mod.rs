//! `cutover revocations …`: what was revoked since capture began, where each stands, and what a person may do about one.

mod add;
mod dead;
mod desk;
mod list;
mod move_queue;
mod replay;
mod show;
mod waive;
mod witness;

use super::arguments::PlanArgs;
use super::exit::Ending;
use clap::Subcommand;

/// Arguments of `revocations`.
#[derive(Debug, clap::Args)]
pub(super) struct RevocationsArgs {
    #[command(subcommand)]
    verb: RevocationsVerb,
}

#[derive(Debug, Subcommand)]
enum RevocationsVerb {
    /// Revokes what came in by no door of the engine, through the plan's gateway, and keeps it like any other.
    Add(add::AddArgs),
    /// Lists captured revocations, oldest first, each with where it stands; touches nothing.
    List(list::ListArgs),
    /// Shows all that is kept of one revocation; never a token.
    Show(show::ShowArgs),
    /// Lists those that could not be read or replayed; exit 3 when there are any.
    Dead(dead::DeadArgs),
    /// Puts a dead revocation back, so that it is replayed once more; with `--live`, executes one on the side that serves.
    Replay(replay::ReplayArgs),
    /// Asks the tables of the side that serves whether what was revoked is dead there; exit 3 when the engine only said so.
    Witness(PlanArgs),
    /// Moves what waits in the queue of an older plan into the queue of this one; nobody may capture meanwhile.
    Move(move_queue::MoveArgs),
    /// Answers for a revocation that is not proved, or cannot be: it stops no move any more, and may not hold.
    Waive(waive::WaiveArgs),
}

/// `cutover revocations …`.
pub(super) async fn run(arguments: &RevocationsArgs) -> Ending {
    match &arguments.verb {
        RevocationsVerb::Add(arguments) => add::run(arguments).await,
        RevocationsVerb::List(arguments) => list::run(arguments).await,
        RevocationsVerb::Show(arguments) => show::run(arguments).await,
        RevocationsVerb::Dead(arguments) => dead::run(arguments).await,
        RevocationsVerb::Replay(arguments) => replay::run(arguments).await,
        RevocationsVerb::Move(arguments) => move_queue::run(arguments).await,
        RevocationsVerb::Witness(arguments) => witness::run(arguments).await,
        RevocationsVerb::Waive(arguments) => waive::run(arguments).await,
    }
}
