//! Functions of the server's own that compute and do nothing else; whatever is not named here may do anything.

/// Their answer is one for all rows of a statement with the same arguments, so that a default of theirs is not computed for each row.
const STEADY: &str = "\
    abs acos acosd acosh age array_agg array_append array_cat array_dims array_fill array_length array_lower array_ndims \
    array_position array_positions array_prepend array_remove array_replace array_to_json array_to_string array_to_tsvector \
    array_upper ascii asin asind asinh atan atan2 atan2d atand atanh avg bit_and bit_count bit_length bit_or bit_xor bool_and bool_or \
    btrim cardinality cbrt ceil ceiling char_length character_length chr coalesce col_description concat concat_ws convert_from \
    convert_to corr cos cosd cosh cot cotd count covar_pop covar_samp cume_dist current_database current_schema current_schemas \
    current_setting current_user date_bin date_part date_trunc datemultirange daterange decode degrees dense_rank encode every exp \
    extract first_value floor format format_type gcd generate_series generate_subscripts get_bit get_byte get_current_ts_config \
    greatest grouping has_schema_privilege has_table_privilege host hostmask inet_same_family initcap int4range int8range \
    is_normalized isempty isfinite json_agg json_array_elements json_array_elements_text json_array_length json_build_array \
    json_build_object json_each json_each_text json_object json_object_agg json_object_keys json_populate_record \
    json_populate_recordset json_strip_nulls json_to_record json_to_recordset json_to_tsvector json_typeof jsonb_agg \
    jsonb_array_elements jsonb_array_elements_text jsonb_array_length jsonb_build_array jsonb_build_object jsonb_concat jsonb_each \
    jsonb_each_text jsonb_insert jsonb_object jsonb_object_agg jsonb_object_keys jsonb_path_exists jsonb_path_exists_tz \
    jsonb_path_match jsonb_path_match_tz jsonb_path_query jsonb_path_query_array jsonb_path_query_array_tz jsonb_path_query_first \
    jsonb_path_query_first_tz jsonb_path_query_tz jsonb_populate_record jsonb_populate_recordset jsonb_pretty jsonb_set jsonb_set_lax \
    jsonb_strip_nulls jsonb_to_record jsonb_to_recordset jsonb_to_tsvector jsonb_typeof justify_days justify_hours justify_interval \
    lag last_value lcm lead least left length line ln log lower lpad ltrim make_date make_interval make_time make_timestamp \
    make_timestamptz masklen max md5 min min_scale mod mode multirange netmask network normalize now nth_value ntile nullif \
    num_nonnulls num_nulls nummultirange numnode numrange obj_description octet_length overlay parse_ident percent_rank pg_backend_pid \
    pg_client_encoding pg_column_compression pg_column_size pg_get_constraintdef pg_get_expr pg_get_function_arguments \
    pg_get_function_identity_arguments pg_get_function_result pg_get_functiondef pg_get_indexdef pg_get_partkeydef pg_get_ruledef \
    pg_get_serial_sequence pg_get_statisticsobjdef pg_get_triggerdef pg_get_userbyid pg_get_viewdef pg_has_role pg_relation_size \
    pg_size_pretty pg_table_is_visible pg_table_size pg_total_relation_size pg_typeof phraseto_tsquery pi plainto_tsquery position \
    power querytree quote_ident quote_literal quote_nullable radians rank regexp_match regexp_matches regexp_replace \
    regexp_split_to_array regexp_split_to_table repeat replace reverse right round row_number row_to_json rpad rtrim scale \
    session_user set_bit set_byte setweight sha224 sha256 sha384 sha512 sign sin sind sinh split_part sqrt starts_with \
    statement_timestamp stddev stddev_pop stddev_samp string_agg string_to_array string_to_table strip strpos substr substring sum tan \
    tand tanh timezone to_ascii to_char to_date to_hex to_json to_jsonb to_number to_regclass to_regcollation to_regnamespace \
    to_regoper to_regoperator to_regproc to_regprocedure to_regrole to_regtype to_timestamp to_tsquery to_tsvector \
    transaction_timestamp translate trim trim_array trim_scale trunc ts_delete ts_filter ts_headline ts_rank ts_rank_cd tsmultirange \
    tsrange tstzmultirange tstzrange unistr unnest upper upper_inc upper_inf var_pop var_samp variance version websearch_to_tsquery \
    xpath xpath_exists";
/// Each call answers anew, and nothing but a number of a sequence, a setting or a message is touched.
const VOLATILE: &str = "clock_timestamp currval gen_random_bytes gen_random_uuid lastval nextval pg_advisory_xact_lock pg_notify random \
    set_config setseed setval timeofday uuid_generate_v1 uuid_generate_v1mc uuid_generate_v4 uuid_generate_v7 uuidv4 uuidv7";

/// Whether every call in a statement answers the same.
pub(super) fn is_steady(name: &str) -> bool {
    is_in(STEADY, name)
}

/// Whether a function is one of the server's that compute and do nothing else.
pub(super) fn is_harmless(name: &str) -> bool {
    is_in(STEADY, name) || is_in(VOLATILE, name)
}

/// Without a schema the server's own come first; under another schema a function is somebody's.
fn is_in(names: &str, name: &str) -> bool {
    let bare = name.strip_prefix("pg_catalog.").unwrap_or(name);
    names.split_whitespace().any(|one| one == bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_server_s_own_from_somebody_s() {
        for name in ["lower", "pg_catalog.now", "string_agg"] {
            assert!(is_steady(name) && is_harmless(name), "{name}");
        }
        for name in ["random", "gen_random_uuid", "clock_timestamp", "nextval"] {
            assert!(!is_steady(name) && is_harmless(name), "{name}");
        }
        for name in ["do_things", "side.lower", "query_to_xml", "dblink_exec", "pg_sleep", "lo_unlink", ""] {
            assert!(!is_harmless(name), "{name}");
        }
    }
}
