//! What a person runs by hand to take back what a run made before its decision, when its journal cannot say any more what that was.

/// On blue and on green: the slots of this database, the publications, and our schema, with which its functions and the triggers
/// that call them go. Nothing of the application's is touched.
pub const TAKE_BACK: &str = r"select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name like 'cutover\_%' and database = current_database();
do $$ declare p name; begin for p in select pubname from pg_publication where pubname like 'cutover\_%' loop execute format('drop publication %I', p); end loop; end $$;
drop schema if exists cutover cascade;";
