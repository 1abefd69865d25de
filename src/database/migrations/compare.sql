with relation as (
  select c.oid, c.relname, c.relkind, c.relpersistence, c.reloptions, c.relrowsecurity, c.relforcerowsecurity, c.relreplident, c.relam, c.relpartbound, c.relacl, n.nspname || '.' || c.relname as name
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
   where n.nspname not in ('pg_catalog', 'information_schema', 'cutover') and n.nspname not like 'pg\_%'
     and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = c.oid and d.deptype = 'e')
), field as (
  select a.*, r.name as of, row_number() over (partition by a.attrelid order by a.attnum) as place
    from pg_catalog.pg_attribute a join relation r on r.oid = a.attrelid
   where a.attnum > 0 and not a.attisdropped and r.relkind in ('r', 'p', 'v', 'm', 'f', 'c')
)
select 'schema ' || nspname, 'exists' from pg_catalog.pg_namespace
 where nspname not in ('pg_catalog', 'information_schema', 'cutover') and nspname not like 'pg\_%'
union all
select 'relation ' || name, pg_catalog.format('kind %s, persistence %s, options %s, row security %s/%s, replica identity %s, access method %s, bound %s, clustered on %s',
         relkind, relpersistence, reloptions, relrowsecurity, relforcerowsecurity, relreplident,
         (select amname from pg_catalog.pg_am where oid = relam), pg_catalog.pg_get_expr(relpartbound, oid),
         (select x.indexrelid::pg_catalog.regclass::text from pg_catalog.pg_index x where x.indrelid = relation.oid and x.indisclustered))
  from relation where relkind not in ('i', 'I', 'c', 't')
union all
select 'column ' || f.of || '.' || f.attname, pg_catalog.format('place %s, %s, collation %s, not null %s, default %s, identity %s, generated %s, storage %s, compression %s, statistics %s, options %s, inherited %s',
         case when $1::bool then f.place end, pg_catalog.format_type(f.atttypid, f.atttypmod), f.attcollation::pg_catalog.regcollation, f.attnotnull,
         pg_catalog.pg_get_expr(d.adbin, d.adrelid), f.attidentity, f.attgenerated, f.attstorage, f.attcompression,
         coalesce(f.attstattarget, -1), f.attoptions, f.attinhcount)
  from field f left join pg_catalog.pg_attrdef d on d.adrelid = f.attrelid and d.adnum = f.attnum
union all
select 'constraint ' || o.conname || ' on ' || coalesce(o.conrelid::pg_catalog.regclass::text, o.contypid::pg_catalog.regtype::text),
       pg_catalog.pg_get_constraintdef(o.oid) || pg_catalog.format(', valid %s', o.convalidated)
  from pg_catalog.pg_constraint o join pg_catalog.pg_namespace n on n.oid = o.connamespace
 where n.nspname not in ('pg_catalog', 'information_schema', 'cutover') and n.nspname not like 'pg\_%' and o.contype <> 't'
union all
select 'index ' || r.name, pg_catalog.pg_get_indexdef(x.indexrelid) || pg_catalog.format(', valid %s, primary %s, part of %s, options %s', x.indisvalid, x.indisprimary,
         (select i.inhparent::pg_catalog.regclass from pg_catalog.pg_inherits i where i.inhrelid = x.indexrelid), r.reloptions)
  from pg_catalog.pg_index x join relation r on r.oid = x.indexrelid
union all
select 'inheritance of ' || r.name, i.inhparent::pg_catalog.regclass::text || ' ' || i.inhseqno
  from pg_catalog.pg_inherits i join relation r on r.oid = i.inhrelid where r.relkind not in ('i', 'I')
union all
select 'partitioning of ' || name, pg_catalog.pg_get_partkeydef(oid) from relation where relkind = 'p'
union all
select 'view ' || name, pg_catalog.pg_get_viewdef(oid) from relation where relkind in ('v', 'm')
union all
select 'sequence ' || r.name, pg_catalog.format('%s, start %s, increment %s, min %s, max %s, cache %s, cycle %s, owned by %s', s.seqtypid::pg_catalog.regtype, s.seqstart, s.seqincrement,
         s.seqmin, s.seqmax, s.seqcache, s.seqcycle,
         (select d.refobjid::pg_catalog.regclass || '.' || a.attname from pg_catalog.pg_depend d
            join pg_catalog.pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
           where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = r.oid and d.deptype in ('a', 'i') limit 1))
  from pg_catalog.pg_sequence s join relation r on r.oid = s.seqrelid
union all
select 'trigger ' || t.tgname || ' on ' || r.name, pg_catalog.pg_get_triggerdef(t.oid) || ', enabled ' || t.tgenabled::text
  from pg_catalog.pg_trigger t join relation r on r.oid = t.tgrelid where not t.tgisinternal
union all
select 'rule ' || u.rulename || ' on ' || r.name, pg_catalog.pg_get_ruledef(u.oid) || ', enabled ' || u.ev_enabled::text
  from pg_catalog.pg_rewrite u join relation r on r.oid = u.ev_class where u.rulename <> '_RETURN'
union all
select 'policy ' || p.polname || ' on ' || r.name, pg_catalog.format('%s, permissive %s, roles %s, using %s, check %s', p.polcmd, p.polpermissive,
         p.polroles::pg_catalog.regrole[], pg_catalog.pg_get_expr(p.polqual, p.polrelid), pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid))
  from pg_catalog.pg_policy p join relation r on r.oid = p.polrelid
union all
select 'routine ' || p.oid::pg_catalog.regprocedure, case when p.prokind in ('f', 'p') then pg_catalog.pg_get_functiondef(p.oid)
         else pg_catalog.format('kind %s', p.prokind) end
  from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
 where n.nspname not in ('pg_catalog', 'information_schema', 'cutover') and n.nspname not like 'pg\_%'
   and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and d.objid = p.oid and d.deptype = 'e')
union all
select 'type ' || t.oid::pg_catalog.regtype, pg_catalog.format('kind %s, base %s, not null %s, default %s, labels %s', t.typtype,
         case when t.typbasetype <> 0 then pg_catalog.format_type(t.typbasetype, t.typtypmod) end, t.typnotnull, t.typdefault,
         (select pg_catalog.array_agg(e.enumlabel order by e.enumsortorder) from pg_catalog.pg_enum e where e.enumtypid = t.oid))
  from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
 where n.nspname not in ('pg_catalog', 'information_schema', 'cutover') and n.nspname not like 'pg\_%' and t.typtype in ('e', 'd', 'r', 'm')
union all
select 'statistics ' || s.stxname, pg_catalog.pg_get_statisticsobjdef(s.oid) from pg_catalog.pg_statistic_ext s
union all
select 'extension ' || extname, extversion from pg_catalog.pg_extension
union all
select 'publication ' || p.pubname, pg_catalog.format('all %s, insert %s, update %s, delete %s, truncate %s, root %s, tables %s', p.puballtables, p.pubinsert, p.pubupdate,
         p.pubdelete, p.pubtruncate, p.pubviaroot,
         (select pg_catalog.array_agg(l.prrelid::pg_catalog.regclass::text order by 1) from pg_catalog.pg_publication_rel l where l.prpubid = p.oid))
  from pg_catalog.pg_publication p
union all
select 'rights on ' || name, relacl::text from relation where relacl is not null
union all
select 'comment on ' || r.name || coalesce('.' || a.attname, ''), d.description
  from pg_catalog.pg_description d join relation r on r.oid = d.objoid
  left join pg_catalog.pg_attribute a on a.attrelid = r.oid and a.attnum = d.objsubid and d.objsubid > 0
 where d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass
union all
select 'event trigger ' || evtname, pg_catalog.format('%s, enabled %s, %s', evtevent, evtenabled, evtfoid::pg_catalog.regprocedure) from pg_catalog.pg_event_trigger
