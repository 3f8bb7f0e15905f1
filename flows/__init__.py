"""When, in what order and with what retries the stages run. Imports Prefect and the standard library, never torch."""
