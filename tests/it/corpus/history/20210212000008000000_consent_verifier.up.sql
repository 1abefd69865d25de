CREATE UNIQUE INDEX shop_consent_verifier_idx ON shop_consent (verifier);
/* The old one is not used
   any more. */
DROP INDEX shop_session_sub_idx;
