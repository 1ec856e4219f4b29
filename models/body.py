"""Config of the body model whose mesh --dance and --eval show."""

from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import FiniteFloat, model_validator

from utils.config import ConfigModel
from utils.skeleton import SMPL_24, Skeleton
from utils.smpl import Gender

if TYPE_CHECKING:
    from utils.body_model import BodyModel


class BodyConfig(ConfigModel):
    """Body model whose mesh replaces the figure of limbs; it needs a licensed file of SMPL."""

    model: str | None = None
    """SMPL's model file, or a folder that holds it (`SMPL_MALE.pkl`, `basicmodel_m_lbs_10_207_0_v1.1.0.pkl`,
    or an .npz of the same arrays). Videos then show SMPL's body, and glb holds its mesh. null: limbs."""
    gender: Gender = "male"
    """Gender of the model that is taken from such a folder."""
    betas: tuple[FiniteFloat, ...] = ()
    """The first shape coefficients of the body; [] is the mean shape. Its size is that of the dancer."""

    @model_validator(mode="after")
    def _check_shape(self) -> Self:
        if self.model is None and (self.betas or self.gender != "male"):
            raise ValueError("gender and betas describe the body of a model; give `model` SMPL's file too")
        return self

    def load(self, skeleton: Skeleton = SMPL_24) -> "BodyModel | None":
        """The body model; None if there is to be none.

        Args:
            skeleton: of the dances.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is no SMPL model, or fits neither the betas nor the skeleton.
        """
        if self.model is None:
            return None
        from utils.body_model import load_body_model

        return load_body_model(Path(self.model), self.gender, self.betas, skeleton)
