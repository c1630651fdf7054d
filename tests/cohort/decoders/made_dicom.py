"""Small DICOM files with whatever attributes a test names."""

import io

import numpy as np
import pydicom
from pydicom import Dataset, uid
from pydicom.dataset import FileMetaDataset


def dicom(stored, syntax=uid.ExplicitVRLittleEndian, photometric="MONOCHROME2", **attributes):
    """The bytes of a file of these stored values, (H, W) or (H, W, 3); None as an attribute takes it away."""
    stored = np.asarray(stored)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = uid.DigitalXRayImageStorageForPresentation
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    ds.Rows, ds.Columns = stored.shape[:2]
    ds.SamplesPerPixel = 1 if stored.ndim == 2 else 3
    if stored.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.PhotometricInterpretation = photometric
    ds.BitsAllocated = ds.BitsStored = stored.dtype.itemsize * 8
    ds.PixelRepresentation = int(stored.dtype.kind == "i")
    ds.PixelData = stored.tobytes()
    ds["PixelData"].VR = "OW"
    for keyword, value in attributes.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    if ds.get("BitsStored"):
        ds.HighBit = attributes.get("HighBit", ds.BitsStored - 1)
    return written(ds)


def written(ds):
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def lut(values, first=0, bits=8, **attributes):
    """A sequence of one look-up table."""
    item = Dataset()
    item.LUTDescriptor = [len(values), first, bits]
    item.LUTData = np.asarray(values, dtype=np.uint16).tobytes()
    item["LUTData"].VR = "OW"
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return [item]
