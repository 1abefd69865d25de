-- cutover: batch key=signature rows=5000
update hydra_oauth2_access set requested_audience = '' where requested_audience is null;
