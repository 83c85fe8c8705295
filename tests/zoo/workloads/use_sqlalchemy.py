"""Map rows to objects and keep them in the session."""

import time

from sqlalchemy import String, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    """Base of the models."""


class Item(Base):
    """A row."""

    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


engine = create_engine("sqlite://")
Base.metadata.create_all(engine)


def fill(session):
    """Insert rows."""
    session.add_all(Item(name=f"item {i}") for i in range(30_000))
    session.commit()


def load(session):
    """Return all rows as objects."""
    return session.scalars(select(Item)).all()


with Session(engine) as session:
    fill(session)
    kept = load(session)
    time.sleep(1.5)
    print(len(kept), kept[-1].name)
