"""What a page may use: the stores of the database, the token streams and the rate limits."""

from dataclasses import dataclass

from medx_core.home import make_private
from medx_core.settings import Settings
from medx_core.storage.audit import AuditStore
from medx_core.storage.credentials import CredentialStore
from medx_core.storage.engine import Database, open_database
from medx_core.storage.evidence import Evidence
from medx_core.storage.health import HealthStore, ProcessHealth
from medx_core.storage.installation import installation_id
from medx_core.storage.jobs import JobStore
from medx_core.storage.people import PersonStore
from medx_core.storage.ratings import RatingStore
from medx_core.storage.recipes import RecipeStore
from medx_core.storage.runs import RunStore
from medx_core.storage.vectors import VectorStore
from web.limits import AttemptCounts, AttemptLimit, per_hour, per_minute
from web.rating_tokens import RatingTokens
from web.session import Sessions, session_secret
from web.token_streams import TokenStreams
from web.uploads import Uploads


@dataclass(frozen=True)
class Services:
    """Everything that handlers and routes work with, except the person who asks."""

    settings: Settings
    database: Database
    jobs: JobStore
    people: PersonStore
    credentials: CredentialStore
    ratings: RatingStore
    health: HealthStore
    vectors: VectorStore
    recipes: RecipeStore
    runs: RunStore
    evidence: Evidence
    audit: AuditStore
    streams: TokenStreams
    uploads: Uploads
    sessions: Sessions
    rating_tokens: RatingTokens
    counts: AttemptCounts
    sign_in_limit: AttemptLimit
    address_limit: AttemptLimit
    once_an_hour: AttemptLimit
    question_limit: AttemptLimit
    batch_limit: AttemptLimit

    def live_workers(self, kind: str = "worker") -> tuple[ProcessHealth, ...]:
        """Return the workers of a kind that were seen lately."""
        return self.health.live_workers(seen_within_seconds=self.settings.worker_seen_seconds, kind=kind)

    def model_line(self) -> str:
        """Return the line on the model that answers now: its size and what it is worth; empty while none is ready."""
        ready = next((worker for worker in self.live_workers() if worker.detail.get("model_name")), None)
        return self.evidence.of_model(ready.detail) if ready else ""

    def refusal(self) -> str:
        """Return why nothing is answered: the model or the recipe in use cannot be used; empty while a worker answers."""
        return self.health.refusal(seen_within_seconds=self.settings.worker_seen_seconds)


def build_services(settings: Settings) -> Services:
    """Open the database and put the services together.

    Raises:
        StorageFault: the database cannot be reached or is not at this program's version.
    """
    make_private(settings.home)
    database = open_database(settings)
    people, runs, credentials = PersonStore(database), RunStore(database), CredentialStore(database)
    secret, installation = session_secret(settings), installation_id(database)
    counts = AttemptCounts(settings.redis_url)
    return Services(
        settings=settings,
        database=database,
        jobs=JobStore(database),
        people=people,
        credentials=credentials,
        ratings=RatingStore(database),
        health=HealthStore(database),
        vectors=VectorStore(database),
        recipes=RecipeStore(database),
        runs=runs,
        evidence=Evidence(database, settings.max_dose),
        audit=AuditStore(database, anchors=settings.anchors_folder),
        streams=TokenStreams(settings.redis_url),
        uploads=Uploads(settings),
        sessions=Sessions(
            secret,
            credentials,
            installation=installation,
            hours=settings.session_hours,
            idle_minutes=settings.session_idle_minutes,
        ),
        rating_tokens=RatingTokens(secret, installation=installation, hours=settings.session_hours),
        counts=counts,
        sign_in_limit=per_minute(counts, "sign-in", settings.sign_in_attempts_a_minute),
        address_limit=per_minute(counts, "sign-in from", settings.sign_in_attempts_a_minute_per_address),
        once_an_hour=per_hour(counts, "noted", 1),
        question_limit=per_minute(counts, "questions", settings.questions_a_minute),
        batch_limit=per_hour(counts, "batches", settings.batches_an_hour),
    )
