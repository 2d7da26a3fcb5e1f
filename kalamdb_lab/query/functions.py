"""Which functions a statement may call: the engine's that compute from their arguments only.

Made once from the functions that DuckDB 1.5.6 and 2.0.0 list, and read through by hand. Left out:
files and network, settings, catalogs and internals of the engine, sleeping, logging, sequences,
dynamic SQL, whatever takes a table by name, types that the language does not have (BIT, ENUM,
UNION, VARIANT, GEOMETRY), and functions whose result grows without an argument that says how
much (`bar`, `list_reduce`, `bitstring_agg`). What can grow by an argument is guarded, see
`guards`.
"""

from __future__ import annotations

from typing import Final

_SCALARS = """
abs acos acosh add age aggregate array_aggr array_aggregate array_append array_apply array_cat
array_concat array_contains array_cosine_distance array_cosine_similarity array_cross_product
array_distance array_distinct array_dot_product array_extract array_filter array_grade_up array_has
array_has_all array_has_any array_indexof array_inner_product array_intersect array_length
array_negative_dot_product array_negative_inner_product array_pop_back array_pop_front
array_position array_prepend array_push_back array_push_front array_reverse array_reverse_sort
array_select array_slice array_sort array_to_json array_to_string array_transform array_unique
array_value array_where array_zip ascii asin asinh atan atan2 atanh base64 bin binom bit_count
bit_length cardinality cbrt ceil ceiling century char_length character_length chr coalesce concat
concat_ws contains cos cosh cot damerau_levenshtein date_add date_diff date_part date_sub
date_trunc datediff datepart datesub datetrunc day dayname dayofmonth dayofweek dayofyear
days_in_month decade decode degrees divide element_at encode ends_with epoch epoch_ms epoch_ns
epoch_us era even exp factorial fdiv filter flatten floor fmod format format_bytes
formatreadabledecimalsize formatreadablesize from_base64 from_binary from_hex from_json
from_json_strict gamma gcd gen_random_uuid generate_series generate_subscripts grade_up greatest
greatest_common_divisor hamming hash hex hour if ifnull ilike_escape instr isfinite isinf isnan
isodow isoyear jaccard jaro_similarity jaro_winkler_similarity json json_array json_array_length
json_contains json_deep_merge json_exists json_extract json_extract_path json_extract_path_text
json_extract_string json_insert json_keys json_merge_patch json_merge_patch_diff json_normalize
json_object json_pretty json_quote json_remove json_replace json_set json_strip_nulls
json_structure json_transform json_transform_strict json_type json_valid json_value julian last_day
lcase lcm least least_common_multiple left left_grapheme len length length_grapheme levenshtein
lgamma like_escape list_aggr list_aggregate list_any_value list_append list_apply
list_approx_count_distinct list_avg list_bit_and list_bit_or list_bit_xor list_bool_and
list_bool_or list_cat list_concat list_contains list_cosine_distance list_cosine_similarity
list_count list_distance list_distinct list_dot_product list_element list_entropy list_extract
list_filter list_first list_grade_up list_has list_has_all list_has_any list_histogram list_indexof
list_inner_product list_intersect list_kurtosis list_kurtosis_pop list_last list_mad list_max
list_median list_min list_mode list_negative_dot_product list_negative_inner_product list_pack
list_position list_prepend list_product list_reverse list_reverse_sort list_select list_sem
list_skewness list_slice list_sort list_stddev_pop list_stddev_samp list_string_agg list_sum
list_transform list_unique list_value list_var_pop list_var_samp list_where list_zip ln log log10
log2 lower lpad ltrim make_date make_time make_timestamp make_timestamp_ms make_timestamp_ns
make_timestamptz map map_concat map_contains map_contains_entry map_contains_value map_entries
map_extract map_extract_value map_from_entries map_keys map_values md5 md5_number md5_number_lower
md5_number_upper microsecond millennium millisecond minute mismatches mod month monthname multiply
nanosecond nextafter nfc_normalize not_ilike_escape not_like_escape nullif octet_length ord overlay
parse_dirname parse_filename parse_formatted_bytes pi position pow power prefix printf quarter
radians random range regexp_escape regexp_extract regexp_extract_all regexp_full_match
regexp_matches regexp_replace regexp_split_to_array regexp_split_to_table repeat replace reverse
right right_grapheme round round_even roundbankers row row_to_json rpad rtrim second sha1 sha256
sign signbit sin sinh split split_part sqrt starts_with str_split str_split_regex strftime
string_split string_split_regex string_to_array strip_accents strlen strpos strptime struct_concat
struct_contains struct_extract struct_extract_at struct_has struct_indexof struct_insert
struct_keys struct_pack struct_position struct_update struct_values substr substring
substring_grapheme subtract suffix tan tanh time_bucket timezone timezone_hour timezone_minute
to_base to_base64 to_binary to_centuries to_days to_decades to_hex to_hours to_json to_microseconds
to_millennia to_milliseconds to_minutes to_months to_quarters to_seconds to_timestamp to_weeks
to_years translate trim trunc try try_strptime typeof ucase unbin unhex unicode unnest upper
url_decode url_encode uuid uuid_extract_timestamp uuid_extract_version uuidv4 uuidv7 week weekday
weekofyear xor year yearweek
"""

_AGGREGATES = """
any_value approx_count_distinct approx_quantile approx_top_k arbitrary arg_max arg_max_null
arg_max_nulls_last arg_min arg_min_null arg_min_nulls_last argmax argmin array_agg avg bit_and
bit_or bit_xor bool_and bool_or corr count count_if count_star countif covar_pop covar_samp entropy
favg first fsum geomean geometric_mean group_concat histogram histogram_exact json_group_array
json_group_object json_group_structure kahan_sum kurtosis kurtosis_pop last list listagg mad max
max_by mean median min min_by mode product quantile quantile_cont quantile_disc regr_avgx regr_avgy
regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy sem skewness stddev
stddev_pop stddev_samp string_agg sum sumkahan var_pop var_samp variance wavg weighted_avg
"""

_WINDOWS = """
cume_dist dense_rank fill first_value lag last_value lead nth_value ntile percent_rank rank
rank_dense row_number
"""

_REFUSED = """
ago alias apply array_reduce array_resize array_to_string_comma_default arrow_scan arrow_scan_dumb
assert_true bar bit_position bitstring bitstring_agg bitstring_byte_comparable can_cast_implicitly
cast_to_type checkpoint col_description combine combine_aggr constant_or_null
create_external_resource create_sort_key current_catalog current_connection_id current_database
current_date current_localtime current_localtimestamp current_query current_query_id current_role
current_schema current_schemas current_setting current_transaction_id current_user currval
decimal_average decimal_division deregister_external_resource destroy_external_resource
disable_logging disable_profiling duckdb_approx_database_count duckdb_available_metrics
duckdb_columns duckdb_connection_count duckdb_constraints duckdb_coordinate_systems
duckdb_databases duckdb_dependencies duckdb_dialects duckdb_eviction_queues
duckdb_extension_repositories duckdb_extensions duckdb_external_file_cache
duckdb_external_resource_types duckdb_external_resources duckdb_functions duckdb_grammar_extensions
duckdb_indexes duckdb_keywords duckdb_log_contexts duckdb_logs duckdb_logs_parsed duckdb_memory
duckdb_optimizers duckdb_prepared_statements duckdb_profiling_settings duckdb_schemas
duckdb_secret_type_parameters duckdb_secret_types duckdb_secrets duckdb_sequences duckdb_settings
duckdb_table_sample duckdb_tables duckdb_temporary_files duckdb_triggers duckdb_types
duckdb_variables duckdb_views editdist3 enable_logging enable_profiling enum_code enum_first
enum_last enum_range enum_range_boundary equi_width_bins error finalize force_checkpoint
format_pg_type format_type get_bit get_block_size get_current_time get_current_timestamp get_type
getenv getvariable glob has_any_column_privilege has_column_privilege has_database_privilege
has_foreign_data_wrapper_privilege has_function_privilege has_language_privilege
has_schema_privilege has_sequence_privilege has_server_privilege has_table_privilege
has_tablespace_privilege histogram_values hive_partition_component icu_calendar_names icu_sort_key
in_search_path index_key inet_client_addr inet_client_port inet_server_addr inet_server_port invoke
is_histogram_other_bin json_copy_strftime_if_date json_copy_strftime_if_timestamp
json_deserialize_sql json_each json_execute_serialized_sql json_serialize_plan json_serialize_sql
json_tree list_reduce list_resize lttb make_type map_to_pg_oid nextval normalized_interval now
obj_description pandas_scan parquet_bloom_probe parquet_file_metadata parquet_full_metadata
parquet_kv_metadata parquet_metadata parquet_scan parquet_schema parse_dirpath
parse_duckdb_log_message parse_path path_join pg_collation_is_visible pg_conf_load_time
pg_conversion_is_visible pg_function_is_visible pg_get_constraintdef pg_get_expr pg_get_viewdef
pg_has_role pg_is_other_temp_schema pg_my_temp_schema pg_opclass_is_visible pg_operator_is_visible
pg_opfamily_is_visible pg_postmaster_start_time pg_size_pretty pg_sleep pg_table_is_visible
pg_timezone_names pg_ts_config_is_visible pg_ts_dict_is_visible pg_ts_parser_is_visible
pg_ts_template_is_visible pg_type_is_visible pg_typeof pragma_collations pragma_database_size
pragma_metadata_info pragma_platform pragma_show pragma_storage_info pragma_table_info
pragma_user_agent pragma_version python_arrow_scan python_map_function query query_table read_blob
read_csv read_csv_auto read_duckdb read_json read_json_auto read_json_objects
read_json_objects_auto read_ndjson read_ndjson_auto read_ndjson_objects read_parquet
read_single_csv_file read_single_json_file read_single_parquet_file read_text reduce
register_external_resource register_external_resource_type remap_struct repeat_row replace_type
reservoir_quantile seq_scan session_user set_bit setseed setval shobj_description sleep_ms
sniff_csv st_asbinary st_asgeojson st_astext st_aswkb st_aswkt st_crs st_geomfromgeojson
st_geomfromwkb st_intersects_extent st_setcrs stats sum_no_overflow summary switch test_all_types
test_vector_types timetz_byte_comparable to_aggregate_state today transaction_timestamp
truncate_duckdb_logs txid_current union_extract union_tag union_value unpivot_list user
variant_array_length variant_bytes_to_variant variant_comparator variant_contains variant_exists
variant_extract variant_extract_string variant_group_array variant_group_object variant_keys
variant_normalize variant_to_parquet_variant variant_type variant_typeof vector_type version
vertex_extract which_secret write_log
"""

_OPERATORS = """
+ - * / // % ^ ** || & | << >> ~ ~~ !~~ ~~* !~~* ~~~ -> ->> @> <@ && ^@ = != <> < <= > >=
"""

SCALARS: Final = frozenset(_SCALARS.split())
AGGREGATES: Final = frozenset(_AGGREGATES.split())
WINDOWS: Final = frozenset(_WINDOWS.split())
ALLOWED: Final = SCALARS | AGGREGATES | WINDOWS

OWN: Final = frozenset({"snowflake_id", "uuid_v7", "ulid", "now", "current_user"})
"""Functions of ours that a statement calls by these names; others of ours have syntax."""

TABLE_FUNCTIONS: Final = frozenset({"range", "generate_series", "unnest", "all_users"})

VECTOR_FUNCTIONS: Final = frozenset({"cosine_distance", "l2_distance", "inner_product"})

REFUSED: Final = frozenset(_REFUSED.split())
"""What the engine has and no statement may call; anything else is simply not found."""

OPERATORS: Final = frozenset(_OPERATORS.split())
"""Functions that the engine's tree calls by an operator."""
